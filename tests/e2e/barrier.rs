//! Barriers between processes.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use pmq_broker::{Barrier, Error};
use pmq_tests::program::Running;
use pmq_tests::shared;

use crate::fleet::Fleet;
use crate::keys::Keys;
use crate::roles::{as_test, broker, directory, queue};

const PARTIES: &str = "PMQ_TEST_PARTIES";
const ROUNDS: &str = "PMQ_TEST_ROUNDS";
/// What the last party does: nothing, or `hang`.
const ACTION: &str = "PMQ_TEST_ACTION";

/// A barrier with a fleet's name, and processes that meet there.
struct Stage {
    fleet: Fleet,
    keys: Keys,
}

impl Stage {
    async fn new() -> Self {
        let fleet = Fleet::new().await;
        let keys = Keys::new(shared(), "barrier", fleet.queue.name());
        Self { fleet, keys }
    }

    fn barrier(&self, parties: u32) -> Barrier {
        let queue = &self.fleet.queue;
        queue.broker().barrier(queue.name(), parties)
    }

    /// Starts a process that passes the barrier so many times.
    fn party(&self, parties: u32, rounds: u32, action: &str) -> Running {
        let stand_in = self.fleet.stand_in();
        let party = stand_in
            .env(PARTIES, parties.to_string())
            .env(ROUNDS, rounds.to_string())
            .env(ACTION, action);
        party.spawn(as_test("barrier::party"))
    }
}

fn number(variable: &str) -> u32 {
    env::var(variable).unwrap().parse().unwrap()
}

#[tokio::test]
#[ignore = "is a party of other tests, in a process of its own"]
async fn party() {
    let Some(name) = queue() else { return };
    let barrier = broker().await.barrier(&name, number(PARTIES));
    let barrier = match env::var(ACTION).unwrap().as_str() {
        "hang" => barrier.with_action(|| async {
            println!("acting");
            std::future::pending::<Result<(), Error>>().await
        }),
        _ => barrier,
    };
    let mut record = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory().join("record"))
        .unwrap();
    for round in 0..number(ROUNDS) {
        match barrier.wait().await {
            Ok(index) => record
                .write_all(format!("{round} {index}\n").as_bytes())
                .unwrap(),
            Err(error) => return println!("{error}"),
        }
    }
    println!("passed");
}

fn is_broken<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::BrokenBarrier { .. }))
}

#[tokio::test]
async fn processes_go_round_by_round_each_index_once() {
    const ROUND: u32 = 200;
    let stage = Stage::new().await;
    let parties: Vec<Running> = (0..5).map(|_| stage.party(5, ROUND, "")).collect();
    for party in &parties {
        let _ = party.wait_for_line("passed");
    }
    let record = stage.fleet.record();
    assert_eq!(record.len(), 5 * ROUND as usize);
    for (round, lines) in record.chunks(5).enumerate() {
        let mut lines = lines.to_vec();
        lines.sort();
        let expected: Vec<String> = (0..5).map(|index| format!("{round} {index}")).collect();
        assert_eq!(lines, expected);
    }
}

#[tokio::test]
async fn a_party_that_is_killed_breaks_it_for_the_others() {
    let stage = Stage::new().await;
    let mut dead = stage.party(3, 1, "");
    stage.keys.wait_for_line("waiters", 1).await;
    let other = stage.party(3, 1, "");
    stage.keys.wait_for_line("waiters", 2).await;
    dead.kill();
    let _ = other.wait_for_line("is broken");
    let barrier = stage.barrier(3);
    assert!(barrier.broken().await.unwrap());
    assert!(is_broken(&barrier.wait().await));
}

#[tokio::test]
async fn a_party_that_stands_still_breaks_it_and_learns_so_when_it_goes_on() {
    let stage = Stage::new().await;
    let still = stage.party(3, 1, "");
    stage.keys.wait_for_line("waiters", 1).await;
    still.stop();
    assert!(is_broken(&stage.barrier(3).wait().await));
    let barrier = stage.barrier(3);
    barrier.reset().await.unwrap();
    still.resume();
    let _ = still.wait_for_line("is broken");
    assert_eq!(barrier.n_waiting().await.unwrap(), 0);
}

#[tokio::test]
async fn a_party_that_is_killed_in_the_action_breaks_it() {
    let stage = Stage::new().await;
    let first = stage.party(2, 1, "hang");
    stage.keys.wait_for_line("waiters", 1).await;
    let mut last = stage.party(2, 1, "hang");
    let _ = last.wait_for_line("acting");
    last.kill();
    let _ = first.wait_for_line("is broken");
}

#[tokio::test]
async fn a_failed_action_breaks_it_until_it_is_reset() {
    let stage = Stage::new().await;
    let barrier = stage.barrier(2).with_action(|| async { Err("no") });
    let (one, other) = tokio::join!(barrier.wait(), barrier.wait());
    let failed = |r: &Result<u32, Error>| matches!(r, Err(Error::BarrierAction { .. }));
    assert!(is_broken(&one) && failed(&other) || failed(&one) && is_broken(&other));
    assert!(barrier.broken().await.unwrap());
    let barrier = stage.barrier(2);
    barrier.reset().await.unwrap();
    let (one, other) = tokio::join!(barrier.wait(), barrier.wait());
    assert_eq!(one.unwrap() + other.unwrap(), 1);
}

#[tokio::test]
async fn a_timeout_or_a_dropped_wait_breaks_it() {
    let stage = Stage::new().await;
    let barrier = stage.barrier(3);
    let soon = Duration::from_millis(50);
    let (one, other) = tokio::join!(barrier.wait(), barrier.wait_timeout(soon));
    assert!(is_broken(&one) && is_broken(&other));
    barrier.reset().await.unwrap();
    let dropped = tokio::time::timeout(soon, barrier.wait());
    let (one, dropped) = tokio::join!(barrier.wait(), dropped);
    assert!(dropped.is_err() && is_broken(&one));
}

#[tokio::test]
async fn whoever_comes_during_the_action_waits_for_the_next_round() {
    let stage = Stage::new().await;
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let barrier = stage.barrier(2).with_action({
        let go = go.clone();
        move || {
            let go = go.clone();
            async move {
                go.notified().await;
                Ok::<_, Error>(())
            }
        }
    });
    let wait = || {
        let barrier = barrier.clone();
        tokio::spawn(async move { barrier.wait().await })
    };
    let (first, second, early, late) = (wait(), wait(), wait(), wait());
    stage.keys.wait_for_line("waiters", 4).await;
    assert_eq!(barrier.n_waiting().await.unwrap(), 0);
    go.notify_one();
    stage.keys.wait_for_line("waiters", 2).await;
    go.notify_one();
    stage.keys.wait_for_line("waiters", 0).await;
    let mut indexes = Vec::new();
    for wait in [first, second, early, late] {
        indexes.push(wait.await.unwrap().unwrap());
    }
    indexes.sort_unstable();
    assert_eq!(indexes, [0, 0, 1, 1]);
}

#[tokio::test]
async fn a_number_of_parties_that_makes_no_sense_is_an_error() {
    let stage = Stage::new().await;
    for parties in [0, 10_001] {
        let refused = stage.barrier(parties).wait().await;
        assert!(matches!(refused, Err(Error::BadOption(_))));
    }
    stage.barrier(2).abort().await.unwrap();
    assert!(is_broken(&stage.barrier(2).wait().await));
    assert_eq!(stage.barrier(1).parties(), 1);
    stage.barrier(1).reset().await.unwrap();
    assert_eq!(stage.barrier(1).wait().await.unwrap(), 0);
}
