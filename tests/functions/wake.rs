//! wake: tokens for those who wait for any shard of a queue.

use crate::call::{Call, text};
use crate::shard::Shard;

fn wake(shard: &Shard, number: u16, tasks: u32) -> u32 {
    let call = Call::new("wake").n(number).n(tasks);
    let answer = shard.try_call_with(&call, &shard.keys.wake_all());
    text(&answer.unwrap()).parse().unwrap()
}

/// How many tokens each of the first shards has.
fn tokens(shard: &Shard) -> [usize; 4] {
    let list = shard.redis("LRANGE", &[shard.keys.wake_all()[0].as_str(), "0", "-1"]);
    let tokens = crate::call::texts(&list);
    [0, 1, 2, 3].map(|s| {
        tokens
            .iter()
            .filter(|token| **token == s.to_string())
            .count()
    })
}

#[test]
fn as_many_tokens_as_tasks_are_there_however_often_it_is_called() {
    let shard = Shard::new();
    assert_eq!(wake(&shard, 2, 3), 3);
    assert_eq!(wake(&shard, 2, 3), 0);
    assert_eq!(wake(&shard, 2, 5), 2);
    assert_eq!(wake(&shard, 1, 1), 1);
    assert_eq!(wake(&shard, 3, 0), 0);
    assert_eq!(tokens(&shard), [0, 1, 5, 0]);
}

#[test]
fn a_shard_with_very_many_tasks_leaves_room_for_a_token_of_each_other() {
    let shard = Shard::new();
    assert_eq!(wake(&shard, 0, 1_000_000), 256);
    for _ in 0..2 {
        for number in 1..4 {
            wake(&shard, number, 100);
        }
        assert_eq!(tokens(&shard), [256, 1, 1, 1]);
    }
}

#[test]
fn a_list_of_another_type_is_left_as_it_is() {
    let shard = Shard::new();
    let keys = shard.keys.wake_all();
    shard.redis("SET", &[keys[0].as_str(), "spoiled"]);
    let call = Call::new("wake").n(0).n(1);
    let error = shard.try_call_with(&call, &keys).unwrap_err();
    assert!(error.to_string().contains("WRONGTYPE"), "{error}");
}
