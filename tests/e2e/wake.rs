//! Wake tokens that get lost with the process that has them.

use std::time::Duration;

use pmq_broker::task_queue::Waiter;
use rustix::process::{Signal, getpid, kill_process};

use crate::fleet::{Fleet, LONG, delay_of};
use crate::roles::{as_test, broker, queue};

/// An idle worker looks at 16 shards at least every 5 s.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOK_AT: usize = 16;
/// For a busy machine.
const SLACK: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "is the process of another test that dies with a token"]
async fn thief() {
    let Some(queue) = queue() else { return };
    let queue = broker().await.task_queue(&queue);
    let mut waiter = Waiter::for_tasks(queue.open().await.unwrap(), LONG);
    while waiter.wait(LONG).await.unwrap().is_none() {}
    // It would claim now, or give the token back.
    kill_process(getpid(), Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_up_that_dies_with_the_process_that_took_it_costs_one_look() {
    let fleet = Fleet::new().await;
    let shards = fleet.queue.open().await.unwrap().len();
    let mut thief = fleet.stand_in().spawn(as_test("wake::thief"));
    let _worker = fleet.worker("-c 1 --allow-commands");
    // Who waits longest is woken first, so that the thief's turn comes with the first task or the second.
    let mut delays = Vec::new();
    while thief.is_running() {
        let id = fleet.submit(&fleet.sh("true")).await;
        let completion = &fleet.completions(1).await[&id];
        delays.push(delay_of(completion));
        assert!(delays.len() < 20, "nobody took the token: {delays:?}");
    }
    let looks = shards.div_ceil(LOOK_AT) as u32;
    let longest = delays.iter().max().unwrap();
    assert!(*longest < LOOK_EVERY * looks + SLACK, "{delays:?}");
    let _ = thief.wait().expect_code(128 + 9);
}
