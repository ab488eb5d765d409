//! take: completions, which stay the taker's until its next take.

use redis::Value;

use crate::call::{bytes, items, text};
use crate::seed::{finish, leave, leave_after, name, reclaim, submit, take, take_after, task};
use crate::shard::{Shard, padded};

/// Ends these tasks, so that their completions stand on `done`.
fn ended(shard: &Shard, words: &[&str]) {
    let tasks: Vec<_> = words
        .iter()
        .map(|w| task(w).with_completions(name("done")))
        .collect();
    shard.call(&submit(&tasks));
    let held = shard.claimed("w", words.len());
    let runs: Vec<_> = held.iter().map(|held| (held, "o")).collect();
    shard.call(&finish(&runs));
}

fn taken(answer: &Value) -> Vec<Vec<u8>> {
    let answer = items(answer);
    assert_eq!(text(&answer[0]), "ok");
    items(&answer[1]).iter().map(bytes).collect()
}

/// The token of what an answer brought.
fn token(answer: &Value) -> u64 {
    text(&items(answer)[2]).parse().unwrap()
}

/// Whether an answer says that more are left.
fn left(answer: &Value) -> String {
    text(&items(answer)[3])
}

#[test]
fn the_oldest_completions_are_taken_and_the_next_waiter_is_woken() {
    let shard = Shard::new();
    ended(&shard, &["a", "b", "c"]);
    shard.redis("DEL", &[shard.key("wake.done:done")]);
    let call = take("client", 1, "done", 2);
    let answer = shard.expect(
        &call,
        "- done:done: a ok T1, b ok T1, c ok T1
         - meta token: T1
         + claims client: take 1 done, a ok T1, b ok T1
         + done:done: c ok T1
         + meta token: T2
         + wake.done:done: 1
         + workers client: +20s",
    );
    let first = taken(&answer);
    assert_eq!((first.len(), left(&answer)), (2, "1".into()));
    assert_eq!(
        taken(&shard.expect_nothing(&call)),
        first,
        "a lost reply loses nothing"
    );
}

#[test]
fn the_next_take_confirms_the_last_one_and_an_emptied_queue_is_forgotten() {
    let shard = Shard::new();
    ended(&shard, &["a", "b"]);
    shard.call(&take("client", 1, "done", 1));
    shard.expect(
        &take("client", 2, "done", 5),
        "- claims client: take 1 done, a ok T2
         - done:done: b ok T2
         - meta token: T1
         - names: done
         - wake.done:done: 2
         + claims client: take 2 done, b ok T2
         + meta token: T3",
    );
    assert!(taken(&shard.expect_nothing(&take("client", 1, "done", 5))).is_empty());
    // A take that brings nothing confirms, and does not use up its number.
    let empty = take("client", 3, "done", 5);
    shard.expect(
        &empty,
        "- claims client: take 2 done, b ok T2
         + claims client: take 2 done",
    );
    assert!(taken(&shard.expect_nothing(&empty)).is_empty());
    ended(&shard, &["c"]);
    let answer = shard.call(&empty);
    assert_eq!((taken(&answer).len(), left(&answer)), (1, "0".into()));
    assert_eq!(taken(&shard.expect_nothing(&empty)).len(), 1);
}

#[test]
fn a_client_that_got_nothing_leaves_no_trace() {
    let shard = Shard::new();
    let call = take("client", 1, "done", 5);
    assert!(taken(&shard.expect_nothing(&call)).is_empty());
}

#[test]
fn a_take_of_none_only_confirms() {
    let shard = Shard::new();
    ended(&shard, &["a", "b"]);
    shard.call(&take("client", 1, "done", 1));
    let call = take("client", 2, "done", 0);
    shard.expect(
        &call,
        "- claims client: take 1 done, a ok T2
         + claims client: take 1 done",
    );
    shard.expect_nothing(&call);
}

#[test]
fn a_take_brings_at_most_a_mebibyte_but_at_least_one() {
    let shard = Shard::new();
    let list = shard.key("done:done");
    for size in [2 << 20, 600_000, 400_000, 400_000] {
        shard.redis("RPUSH", &[list.as_bytes(), &vec![b'x'; size]]);
    }
    let sizes = |number| {
        taken(&shard.call(&take("client", number, "done", 9)))
            .iter()
            .map(Vec::len)
            .collect::<Vec<_>>()
    };
    assert_eq!(sizes(1), [2 << 20]);
    assert_eq!(sizes(2), [600_000, 400_000]);
    assert_eq!(sizes(3), [400_000]);
}

#[test]
fn five_hundred_small_ones_come_in_one_call() {
    let shard = Shard::new();
    let list = shard.key("done:done");
    for i in 0..600 {
        shard.redis("RPUSH", &[&list, &format!("{i}")]);
    }
    let got = taken(&shard.call(&take("client", 1, "done", 500)));
    assert_eq!((got.len(), got[499].as_slice()), (500, &b"499"[..]));
}

#[test]
fn room_in_a_full_completion_queue_wakes_a_worker() {
    let shard = Shard::new();
    shard.set_meta("completions_max", 2);
    let list = shard.key("done:done");
    for i in 0..3 {
        shard.redis("RPUSH", &[&list, &format!("{i}")]);
    }
    shard.call(&take("client", 1, "done", 1));
    assert_eq!(shard.state().list("wake").len(), 0);
    shard.call(&take("client", 2, "done", 1));
    assert_eq!(shard.state().list("wake").len(), 1);
}

#[test]
fn an_ended_client_has_lost() {
    let shard = Shard::new();
    ended(&shard, &["a"]);
    shard.redis(
        "ZADD",
        &[shard.key("workers").as_bytes(), b"-1", &padded("client")],
    );
    assert_eq!(
        text(&items(&shard.expect_nothing(&take("client", 1, "done", 1)))[0]),
        "lost"
    );
}

#[test]
fn a_client_whose_row_is_gone_has_lost_what_it_took_and_goes_on_as_somebody_new() {
    let shard = Shard::new();
    ended(&shard, &["a", "b"]);
    shard.call(&take("client", 1, "done", 1));
    shard.expire("client");
    shard.call(&reclaim());
    let next = take("client", 2, "done", 1);
    assert_eq!(text(&items(&shard.expect_nothing(&next))[0]), "lost");
    let confirm = take("client", 2, "done", 0);
    assert_eq!(text(&items(&shard.expect_nothing(&confirm))[0]), "lost");
    let both = taken(&shard.call(&take("somebody", 1, "done", 2)));
    assert_eq!(both.len(), 2);
}

#[test]
fn a_client_that_left_can_not_take_by_its_old_numbers() {
    let shard = Shard::new();
    ended(&shard, &["a", "b"]);
    shard.call(&take("client", 1, "done", 1));
    shard.call(&leave("client", true));
    let belated = take("client", 2, "done", 1);
    assert_eq!(text(&items(&shard.expect_nothing(&belated))[0]), "lost");
}

#[test]
fn a_copy_of_the_first_take_that_comes_after_its_lease_has_ended_loses_nothing() {
    let shard = Shard::new();
    ended(&shard, &["a", "b"]);
    let first = take_after("client", 1, 0);
    let read = token(&shard.call(&first));
    shard.expire("client"); // it is paused
    shard.call(&reclaim());
    assert_eq!(taken(&shard.call(&take("other", 1, "done", 1))).len(), 1);
    shard.call(&first); // the copy takes b, and nobody hears
    let next = take_after("client", 2, read);
    assert_eq!(text(&items(&shard.expect_nothing(&next))[0]), "lost");
    shard.expire("client");
    shard.call(&reclaim());
    assert_eq!(shard.state().list("done:done").len(), 1, "b is back");
}

#[test]
fn who_leaves_confirms_only_what_it_has_read() {
    let shard = Shard::new();
    ended(&shard, &["a", "b"]);
    let first = take_after("client", 1, 0);
    let read = token(&shard.call(&first));
    shard.expire("client");
    shard.call(&reclaim());
    shard.call(&take("other", 1, "done", 1));
    shard.call(&first);
    shard.call(&leave_after("client", read));
    assert_eq!(shard.state().list("done:done").len(), 1, "b is back");
}

#[test]
fn what_is_confirmed_is_told_again_by_a_take_that_brings_nothing() {
    let shard = Shard::new();
    ended(&shard, &["a"]);
    let read = token(&shard.call(&take_after("client", 1, 0)));
    let empty = take_after("client", 2, read);
    assert_eq!(token(&shard.call(&empty)), read);
    ended(&shard, &["b"]);
    let next = shard.call(&empty);
    assert_eq!(taken(&next).len(), 1);
    assert!(token(&next) > read);
    // After a failover the broker may know less than it said: what it remembers was read long ago.
    shard.call(&take_after("client", 3, token(&next) + 1));
    assert!(shard.state().list("done:done").is_empty());
}
