//! How a worker stops: on a signal it lets tasks end or hands them back; in a burst it ends with the ready tasks.

use std::fs;
use std::time::{Duration, Instant};

use pmq_broker::task_queue::State;
use pmq_broker::{Due, Outcome, Task};

use crate::fleet::Fleet;

/// Waits until the file `release` is there.
const UNTIL_RELEASED: &str = "record; while ! [ -e $DIR/release ]; do sleep 0.02; done; echo done";

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_running_tasks_end_within_the_grace_and_claims_no_more() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("-c 1 --allow-commands");
    let running = fleet.submit(&fleet.sh(UNTIL_RELEASED)).await;
    fleet.wait_for_record(1);
    let waiting = fleet.submit(&fleet.sh("record")).await;
    worker.terminate();
    fs::write(fleet.path("release"), "").unwrap();
    let _ = worker.wait().expect_code(0);
    let completion = fleet.completion().await;
    assert_eq!((completion.id, completion.outcome), (running, Outcome::Ok));
    assert_eq!(fleet.queue.find(waiting).await.unwrap().state, State::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_end_within_the_grace_is_handed_back_at_once_and_uses_up_nothing() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("-c 1 --grace 300ms --kill-after 300ms --allow-commands");
    fleet
        .submit(&fleet.sh("record; [ -e $DIR/release ] || exec sleep 600"))
        .await;
    fleet.wait_for_record(1);
    let stopped = Instant::now();
    worker.terminate();
    let _ = worker.wait().expect_code(0);
    fs::write(fleet.path("release"), "").unwrap();
    let _next = fleet.worker("-c 1 --allow-commands");
    let completion = fleet.completion().await;
    assert_eq!((completion.outcome, completion.attempt), (Outcome::Ok, 1));
    assert!(
        stopped.elapsed() < Duration::from_secs(10),
        "the lease of 15 s is not waited for"
    );
}

/// As a terminal that closes sends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_hands_tasks_back_as_sigterm_does() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("-c 1 --grace 100ms --kill-after 300ms --allow-commands");
    let id = fleet.submit(&fleet.sh("record; exec sleep 600")).await;
    fleet.wait_for_record(1);
    worker.hang_up();
    let _ = worker.wait().expect_code(0);
    assert_eq!(fleet.queue.find(id).await.unwrap().state, State::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_hurries() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("-c 1 --grace 10m --kill-after 300ms --allow-commands");
    let id = fleet.submit(&fleet.sh("record; exec sleep 600")).await;
    fleet.wait_for_record(1);
    worker.terminate();
    worker.terminate();
    // Signals of one kind are not counted, so one is sent until the worker heeds the second.
    let ended = pmq_tests::eventually("the worker hurries", Duration::from_secs(30), {
        let mut worker = Some(worker);
        move || {
            let mut running = worker.take()?;
            if running.is_running() {
                running.terminate();
                worker = Some(running);
                return None;
            }
            Some(running.wait())
        }
    });
    let _ = ended.expect_code(0);
    assert_eq!(fleet.queue.find(id).await.unwrap().state, State::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ignores_sigterm_does_not_keep_its_worker() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("-c 1 --grace 100ms --kill-after 10m --allow-commands");
    let id = fleet
        .submit(&fleet.sh("trap '' TERM; record; while :; do sleep 0.1; done"))
        .await;
    fleet.wait_for_record(1);
    worker.terminate();
    let _ = worker.wait().expect_code(0);
    assert_eq!(fleet.queue.find(id).await.unwrap().state, State::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_runs_what_is_ready_and_does_not_await_what_is_scheduled() {
    let fleet = Fleet::new().await;
    let ready: Vec<Task> = (0..20).map(|_| fleet.sh("record")).collect();
    fleet.queue.submit_many(&ready).await.unwrap();
    let mut later = fleet.sh("record");
    later.due = Due::After(Duration::from_secs(3600));
    fleet.submit(&later).await;
    let _ = fleet
        .worker("-c 2 --burst --allow-commands")
        .wait()
        .expect_code(0);
    assert_eq!(fleet.record().len(), 20);
    assert_eq!(fleet.completions(20).await.len(), 20);
    assert_eq!(
        fleet.queue.find(later.id).await.unwrap().state,
        State::Scheduled
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_runs_what_its_own_tasks_submit() {
    let fleet = Fleet::new().await;
    let pmq = env!("CARGO_BIN_EXE_pmq-under-test");
    let script = format!(
        "record; {pmq} --redis {} submit -q {} --completions done -- echo grandchild",
        fleet.url(),
        fleet.queue.name()
    );
    fleet.submit(&fleet.sh(&script)).await;
    let _ = fleet
        .worker("-c 2 --burst --allow-commands")
        .wait()
        .expect_code(0);
    assert_eq!(fleet.completions(2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_bursts_at_once_share_the_tasks() {
    let fleet = Fleet::new().await;
    let tasks: Vec<Task> = (0..200).map(|_| fleet.sh("record")).collect();
    fleet.queue.submit_many(&tasks).await.unwrap();
    let bursts = [0, 1].map(|_| fleet.worker("-c 2 --burst --allow-commands"));
    for burst in bursts {
        let _ = burst.wait().expect_code(0);
    }
    assert_eq!(fleet.record().len(), 200, "each ran once");
    assert_eq!(fleet.completions(200).await.len(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_asked_in_the_order_given() {
    let (first, second) = (Fleet::new().await, Fleet::new().await);
    for number in 0..5 {
        second
            .submit(&first.sh(&format!("record second {number}")))
            .await;
        first
            .submit(&first.sh(&format!("record first {number}")))
            .await;
    }
    let flags = format!("-q {} -c 1 --burst --allow-commands", second.queue.name());
    let _ = first.worker(&flags).wait().expect_code(0);
    let order: Vec<String> = first
        .record()
        .iter()
        .map(|line| line.splitn(3, ' ').last().unwrap().to_owned())
        .collect();
    let of = |queue| (0..5).map(move |number| format!("{queue} {number}"));
    let expected: Vec<String> = of("first").chain(of("second")).collect();
    assert_eq!(order, expected);
}
