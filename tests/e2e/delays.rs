//! Waiting without polling: a task starts when it is due, and a token that reaches the wrong worker delays nothing.

use std::fs;
use std::time::Duration;

use pmq_broker::{Due, Outcome};
use pmq_tests::program::Running;
use pmq_tests::{RedisServer, eventually};

use crate::fleet::{Fleet, LONG, SOON, delay_of};
use crate::store::Store;

/// Waits until as many workers wait for tasks, on a server of the test's own.
fn wait_for_waiters(server: &RedisServer, n: u64) {
    eventually("the workers wait", SOON, || {
        (blocked(server) == n).then_some(())
    });
}

fn blocked(server: &RedisServer) -> u64 {
    let info: String = redis::cmd("INFO")
        .arg("clients")
        .query(&mut server.connection())
        .unwrap();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("blocked_clients:"));
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_of_one_second_on_an_idle_fleet_starts_within_1_3_seconds() {
    let server = RedisServer::start();
    let fleet = Fleet::at(server.url()).await;
    let _workers = [0; 3].map(|_| fleet.worker("-c 1 --allow-commands"));
    let mut delays = Vec::new();
    for _ in 0..3 {
        wait_for_waiters(&server, 3);
        let mut task = fleet.sh("true");
        task.due = Due::After(Duration::from_secs(1));
        fleet.submit(&task).await;
        delays.push(delay_of(&fleet.completion().await));
    }
    delays.sort();
    assert!(delays[0] >= Duration::from_millis(999), "{delays:?}");
    // One may be unlucky on a busy machine.
    assert!(delays[1] <= Duration::from_millis(1300), "{delays:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tasks_for_two_idle_workers_of_one_slot_start_at_once() {
    let server = RedisServer::start();
    let fleet = Fleet::at(server.url()).await;
    let _workers = [0; 2].map(|_| fleet.worker("-c 1 --allow-commands"));
    wait_for_waiters(&server, 2);
    let task = || fleet.sh("record; while ! [ -e $DIR/release ]; do sleep 0.02; done");
    fleet.queue.submit_many(&[task(), task()]).await.unwrap();
    fleet.wait_for_record(2);
    fs::write(fleet.path("release"), "").unwrap();
    for completion in fleet.completions(2).await.values() {
        assert!(
            delay_of(completion) < Duration::from_secs(2),
            "{completion:?}"
        );
    }
}

/// Two idle workers; the first has waited longer, so the next token is its own.
async fn two_waiters(server: &RedisServer) -> (Fleet, Running, Running) {
    let fleet = Fleet::at(server.url()).await;
    let first = fleet.worker("-c 1 --allow-commands --name first");
    wait_for_waiters(server, 1);
    let second = fleet.worker("-c 1 --allow-commands --name second");
    wait_for_waiters(server, 2);
    (fleet, first, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lost_with_a_stalled_worker_costs_one_poll() {
    let server = RedisServer::start();
    let (fleet, stalled, _second) = two_waiters(&server).await;
    stalled.stop();
    fleet.submit(&fleet.sh("true")).await;
    let completion = fleet.completion().await;
    assert_eq!(completion.worker, "second");
    assert!(
        delay_of(&completion) < Duration::from_secs(6),
        "{completion:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_passes_its_token_on() {
    let server = RedisServer::start();
    let (fleet, stopping, _second) = two_waiters(&server).await;
    // It finds the token and the signal at the same time.
    stopping.stop();
    stopping.terminate();
    fleet.submit(&fleet.sh("true")).await;
    stopping.resume();
    let completion = fleet.completion().await;
    assert!(
        delay_of(&completion) < Duration::from_secs(2),
        "{completion:?}"
    );
    let _ = stopping.wait().expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_fills_up_leaves_the_watch_for_due_tasks_to_another() {
    let server = RedisServer::start();
    let (fleet, first, second) = two_waiters(&server).await;
    let _workers = (first, second);
    // The first takes this one's token and so watches the clock for it.
    let mut due = fleet.sh("true");
    due.due = Due::After(Duration::from_millis(1500));
    fleet.submit(&due).await;
    wait_for_waiters(&server, 2);
    // The second runs this one, and then has waited less than the first.
    fleet.submit(&fleet.sh("true")).await;
    assert_eq!(fleet.completion().await.worker, "second");
    wait_for_waiters(&server, 2);
    // So the first takes this one, and is busy when the other is due.
    let busy = fleet
        .submit(&fleet.sh("record; while ! [ -e $DIR/release ]; do sleep 0.02; done"))
        .await;
    let completion = fleet.completion().await;
    assert_eq!(
        (completion.id, completion.worker.as_str()),
        (due.id, "second")
    );
    assert!(
        delay_of(&completion) < Duration::from_millis(2500),
        "{completion:?}"
    );
    fs::write(fleet.path("release"), "").unwrap();
    let completion = fleet.completion().await;
    assert_eq!((completion.id, completion.outcome), (busy, Outcome::Ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_makes_less_than_one_call_a_second() {
    const WORKERS: u64 = 3;
    let server = RedisServer::start();
    let fleet = Fleet::at(server.url()).await;
    let _workers = [0; WORKERS as usize].map(|_| fleet.worker("-c 4 --allow-commands"));
    wait_for_waiters(&server, WORKERS);
    let mut store = Store::on(&server, &fleet).await;
    let (calls, began) = (store.calls(), store.seconds());
    eventually("each has waited twice more", LONG, || {
        (store.calls_of("blpop") >= 3 * WORKERS).then_some(())
    });
    let seconds = store.seconds() - began;
    let rate = (store.calls() - calls) as f64 / seconds / WORKERS as f64;
    assert!(rate < 1.0, "{rate:.2} calls/s in {seconds:.1} s");
}
