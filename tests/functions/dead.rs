//! requeue and `purge_dead`: what becomes of dead letters.

use pmq_broker::Task;

use crate::call::{Call, text};
use crate::seed::{Held, by_id, finish, submit, task};
use crate::shard::{Shard, padded};

/// Brings tasks of these priorities into the dead letters, in this order.
fn dead(shard: &Shard, tasks: &[(&str, u8)]) {
    for (word, priority) in tasks {
        shard.call(&submit(&[Task {
            priority: *priority,
            ..task(word)
        }]));
        let held = shard.claimed("w", 1).remove(0);
        shard.call(&finish(&[(&held, "g")]));
    }
}

fn named(verb: &'static str, words: &[&str]) -> Call {
    Call::new(verb)
        .arg("")
        .args(words.iter().map(|w| padded(w)))
}

#[test]
fn a_requeued_task_is_ready_with_all_its_attempts_and_its_record_is_gone() {
    let shard = Shard::new();
    dead(&shard, &[("a", 5), ("b", 5)]);
    let call = named("requeue", &["a", "unknown", "a"]);
    let answer = shard.expect(
        &call,
        "- attempts a: failed 1 crashed 0 T1
         - dead a: now p5
         - errors a: failed T1
         - B1 a: failed T1
         + ready:5: a
         + wake: 1",
    );
    assert_eq!(text(&answer), "1");
    assert_eq!(text(&shard.expect_nothing(&call)), "0");
    let held: Vec<Held> = shard.claimed("w", 1);
    assert_eq!(text(&shard.call(&finish(&[(&held[0], "o")]))), "o");
}

#[test]
fn the_oldest_are_requeued_by_their_priorities() {
    let shard = Shard::new();
    dead(&shard, &[("a", 9), ("b", 0), ("c", 5)]);
    let times: Vec<_> = ["a", "b", "c"].into_iter().zip([9, 0, 5]).collect();
    for (i, (word, priority)) in times.iter().enumerate() {
        let score = (i + 1) as f64 + f64::from(*priority) / 16.0;
        shard.redis(
            "ZADD",
            &[
                shard.key("dead").as_bytes(),
                score.to_string().as_bytes(),
                &padded(word),
            ],
        );
    }
    assert_eq!(text(&shard.call(&Call::new("requeue").n(2))), "2");
    assert_eq!(shard.state().list("ready:9"), [padded("a")]);
    assert_eq!(shard.state().list("ready:0"), [padded("b")]);
    assert_eq!(shard.state().sorted("dead").len(), 1);
}

#[test]
fn a_purged_dead_letter_is_gone_but_for_its_record() {
    let shard = Shard::new();
    dead(&shard, &[("a", 5), ("b", 5)]);
    let call = named("purge_dead", &["a", "a"]);
    let answer = shard.expect(
        &call,
        "- attempts a: failed 1 crashed 0 T1
         - dead a: now p5
         - errors a: failed T1
         - tasks a",
    );
    assert_eq!(text(&answer), "1");
    assert_eq!(text(&shard.expect_nothing(&call)), "0");
    assert_eq!(text(&shard.call(&Call::new("purge_dead").n(100))), "1");
    assert!(shard.state().hash("tasks").is_empty());
    assert_eq!(
        text(&shard.expect_nothing(&Call::new("purge_dead").n(100))),
        "0"
    );
}

#[test]
fn only_dead_letters_are_touched() {
    let shard = Shard::new();
    shard.submitted(&["a"]);
    for verb in ["requeue", "purge_dead"] {
        assert_eq!(text(&shard.expect_nothing(&named(verb, &["a"]))), "0");
    }
    shard.expect_nothing(&by_id("watch", &["unknown"]));
}
