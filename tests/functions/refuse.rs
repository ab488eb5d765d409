//! refuse: a worker gives back what it can't run.

use crate::call::text;
use crate::seed::{completion, refuse};
use crate::shard::{Shard, padded};

const PATIENCE: u64 = 300_000;

/// Writes that the task was refused for the first time so long ago.
fn refused_since(shard: &Shard, word: &str, ago_ms: u64) {
    edit_row(shard, word, |row| {
        row[12..20].copy_from_slice(&(shard.now_ms() - ago_ms).to_le_bytes());
    });
}

/// Writes how often the task was refused.
fn refused_times(shard: &Shard, word: &str, times: u16) {
    edit_row(shard, word, |row| {
        row[20..22].copy_from_slice(&times.to_le_bytes());
    });
}

fn edit_row(shard: &Shard, word: &str, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut row = shard.state().hash("attempts")[padded(word).as_slice()].clone();
    edit(&mut row);
    shard.redis(
        "HSET",
        &[shard.key("attempts").as_bytes(), &padded(word), &row],
    );
}

/// Has a worker claim the task and refuse it; the letter.
fn refused_again(shard: &Shard, word: &str) -> String {
    shard.make_due(word);
    let held = shard.claimed("w", 1).remove(0);
    text(&shard.call(&refuse(&[&held])))
}

#[test]
fn a_refused_task_is_offered_again_soon_and_uses_up_nothing() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    let call = refuse(&[&held]);
    let answer = shard.expect(
        &call,
        "- running a: w T1
         + attempts a: failed 0 crashed 0 refused 1 since now
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
fn a_task_that_nobody_can_run_for_5_minutes_and_20_refusals_is_a_dead_letter() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    shard.call(&refuse(&[&held]));
    refused_since(&shard, "a", PATIENCE);
    refused_times(&shard, "a", 19);
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
fn a_long_backlog_between_two_refusals_does_not_bury_what_others_could_run() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    shard.call(&refuse(&[&held]));
    refused_since(&shard, "a", PATIENCE);
    for _ in 2..20 {
        assert_eq!(refused_again(&shard, "a"), "r");
    }
    assert_eq!(refused_again(&shard, "a"), "b", "the 20th");
}

#[test]
fn many_refusals_within_5_minutes_do_not_bury_it_either() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    shard.call(&refuse(&[&held]));
    refused_times(&shard, "a", u16::MAX);
    assert_eq!(refused_again(&shard, "a"), "r");
    let row = &shard.state().hash("attempts")[padded("a").as_slice()];
    assert_eq!(row[20..22], u16::MAX.to_le_bytes(), "it does not wrap");
}

#[test]
fn a_row_without_a_count_begins_to_count() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    shard.call(&refuse(&[&held]));
    edit_row(&shard, "a", |row| row.truncate(20));
    refused_since(&shard, "a", PATIENCE);
    assert_eq!(refused_again(&shard, "a"), "r");
    let line = "attempts a: failed 0 crashed 0 refused 1 since -300s";
    assert!(
        shard.lines().iter().any(|l| l == line),
        "{:#?}",
        shard.lines()
    );
}

#[test]
fn a_run_named_twice_is_refused_once() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    assert_eq!(text(&shard.call(&refuse(&[&held, &held]))), "rl");
}
