//! claim: how long an idle worker waits, and who watches the clock.

use crate::seed::{LEASE, claim, claim_with, claimed, submit_with_due, task};
use crate::shard::{Shard, padded};

#[test]
fn one_idle_worker_at_a_time_watches_the_clock() {
    let shard = Shard::new();
    shard.call(&submit_with_due(&[task("a")], &["+30000"]));
    let wait = |worker: &str| claimed(&shard.call(&claim(worker, 1, 1))).wait;
    let first: u64 = wait("v").parse().unwrap();
    assert!(first > 20_000 && first <= 30_000, "{first}");
    assert_eq!(wait("w"), "");
    assert!(!wait("v").is_empty(), "the chosen one is told again");
    // Something earlier comes: whoever claims next is chosen.
    shard.call(&submit_with_due(&[task("b")], &["+10000"]));
    assert!(wait("w").parse::<u64>().unwrap() <= 10_000);
    // The chosen one is gone: its time passes.
    shard.set_meta("waiter_until", shard.now_ms() - 1);
    assert!(!wait("v").is_empty());
    // Who is not going to wait is not chosen.
    shard.set_meta("waiter_until", 0);
    let busy = claimed(&shard.call(&claim_with("u", 1, 1, ["", "1", "0"])));
    assert_eq!(busy.wait, "");
    assert_eq!(
        shard.state().meta("waiter"),
        Some(String::from_utf8(padded("v").to_vec()).unwrap())
    );
}

#[test]
fn who_takes_all_that_is_ready_may_wait_without_another_claim() {
    let shard = Shard::new();
    shard.call(&submit_with_due(&[task("later")], &["+10000"]));
    let next = |worker: &str, number: u32, n: usize, word: &str| {
        shard.submitted(&[word]);
        let answer = claimed(&shard.call(&claim(worker, number, n)));
        assert_eq!(answer.words(), word);
        answer.wait
    };
    // Slots are left: it watches the clock as one that found nothing would.
    assert!(next("v", 1, 2, "a").parse::<u64>().unwrap() > 1000);
    // None is left, but another watches: it waits for a token when one is free.
    assert_eq!(next("w", 1, 1, "b"), "");
    // The one that watched has no slot left: it is to claim again, and a token wakes who takes the watch over.
    assert_eq!(next("v", 2, 1, "c"), "0");
    assert_eq!(shard.state().meta("waiter"), None);
    assert_eq!(shard.state().list("wake").len(), 1);
    // Nobody watches.
    assert_eq!(next("w", 2, 1, "d"), "0");
    // Somebody does, but not early enough for what came since.
    let watch: u64 = claimed(&shard.call(&claim("u", 1, 1)))
        .wait
        .parse()
        .unwrap();
    assert!(watch > 4000, "{watch}");
    shard.call(&submit_with_due(&[task("sooner")], &["+3000"]));
    assert_eq!(next("w", 3, 1, "e"), "0");
}

#[test]
fn while_a_lease_has_ended_an_idle_worker_comes_back_soon() {
    let shard = Shard::new();
    shard.running("a", "dead");
    shard.expire("dead");
    let answer = claimed(&shard.call(&claim("w", 1, 1)));
    assert!(answer.lease_ended);
    assert_eq!(answer.wait, (LEASE / 5).to_string());
}

#[test]
fn on_one_shard_of_several_somebody_comes_back_before_a_silence_looks_like_an_outage() {
    let shard = Shard::new();
    shard.running("a", "other");
    let wait = |shards: &str| -> u64 {
        shard.set_meta("shards", shards);
        shard.set_meta("waiter_until", 0);
        let answer = shard.call(&claim("w", 1, 1).arg(shards));
        claimed(&answer).wait.parse().unwrap()
    };
    assert!(wait("1") > LEASE / 2);
    assert_eq!(wait("4"), LEASE / 5);
}
