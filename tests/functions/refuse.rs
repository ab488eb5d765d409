//! refuse: a worker gives back what it can't run.

use crate::call::text;
use crate::seed::{completion, refuse};
use crate::shard::{Shard, padded};

const PATIENCE: u64 = 300_000;

/// Writes that the task was refused for the first time so long ago.
fn refused_since(shard: &Shard, word: &str, ago_ms: u64) {
    let mut row = shard.state().hash("attempts")[padded(word).as_slice()].clone();
    row.splice(12..20, (shard.now_ms() - ago_ms).to_le_bytes());
    shard.redis(
        "HSET",
        &[shard.key("attempts").as_bytes(), &padded(word), &row],
    );
}

#[test]
fn a_refused_task_is_offered_again_soon_and_uses_up_nothing() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    let call = refuse(&[&held]);
    let answer = shard.expect(
        &call,
        "- running a: w T1
         + attempts a: failed 0 crashed 0 refused now
         + scheduled a: +10s p5
         + wake: 1",
    );
    assert_eq!(text(&answer), "r");
    assert_eq!(text(&shard.expect_nothing(&call)), "l");
}

#[test]
fn the_wait_grows_with_the_time_of_refusals_up_to_15_s() {
    let shard = Shard::new();
    shard.running("a", "w");
    let held = shard.running("b", "v");
    shard.call(&refuse(&[&held]));
    for (ago, shortest, longest) in [
        (0, 25, 10_000),
        (20_000, 10_000, 19_000),
        (200_000, 15_000, 24_000),
    ] {
        refused_since(&shard, "b", ago);
        shard.make_due("b");
        let held = shard.claimed("v", 1).remove(0);
        let now = shard.now_ms();
        shard.call(&refuse(&[&held]));
        let due: f64 = shard.state().sorted("scheduled")[padded("b").as_slice()]
            .parse()
            .unwrap();
        let wait = due - now as f64;
        assert!(
            wait >= f64::from(shortest) && wait < f64::from(longest),
            "{ago}: {wait}"
        );
    }
}

#[test]
fn a_task_that_nobody_can_run_for_5_minutes_is_a_dead_letter() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    shard.call(&refuse(&[&held]));
    refused_since(&shard, "a", PATIENCE);
    shard.make_due("a");
    let held = shard.claimed("w", 1).remove(0);
    let call = refuse(&[&held]);
    let answer = shard.expect(
        &call,
        "- running a: w T1 run 1
         + dead a: now p5
         + errors a: dead T1
         + meta buckets: B1
         + B1 a: dead T1
         + B1 expires +4050s",
    );
    assert_eq!(text(&answer), "b");
    assert_eq!(
        shard.state().hash("errors")[padded("a").as_slice()],
        completion(&held, "d")
    );
    assert_eq!(text(&shard.expect_nothing(&call)), "l");
}

#[test]
fn a_run_named_twice_is_refused_once() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    assert_eq!(text(&shard.call(&refuse(&[&held, &held]))), "rl");
}
