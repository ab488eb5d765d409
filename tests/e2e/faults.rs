//! The whole fleet under every fault at once: each task ends exactly once.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use pmq_broker::{Outcome, Task, TaskId};
use pmq_tests::program::Running;
use pmq_tests::{RedisServer, eventually, eventually_or};

use crate::fleet::{Fleet, SOON, collect, pass};

const TASKS: usize = 10_000;
const LEASE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_tasks_end_once_each_while_workers_die_and_stall_and_redis_restarts() {
    let mut server = RedisServer::builder().aof(true).start();
    let fleet = Fleet::at(server.url()).await;
    let tasks: Vec<Task> = (0..TASKS).map(|_| fleet.sh("record")).collect();
    fleet.queue.submit_many(&tasks).await.unwrap();
    let mut workers = [0; 4].map(|_| fleet.worker("-c 4 --lease 2s --allow-commands"));

    wait_for_runs(&fleet, TASKS / 10);
    workers[0].kill();
    wait_for_runs(&fleet, TASKS / 5);
    workers[1].stop();
    pass(LEASE * 3 / 2);
    workers[1].resume();
    wait_until_it_knows(&workers[1]);
    wait_for_runs(&fleet, TASKS / 2);
    server.kill();
    server.restart();

    let completions = collect(&mut fleet.consumer(), TASKS).await;
    assert!(
        completions
            .values()
            .all(|completion| completion.outcome == Outcome::Ok)
    );
    let submitted: HashSet<TaskId> = tasks.iter().map(|task| task.id).collect();
    assert!(completions.keys().all(|id| submitted.contains(id)));
    let runs = runs(&fleet);
    for (id, completion) in &completions {
        let attempts = &runs[id];
        assert!(
            attempts.contains(&completion.attempt),
            "completed by a run that never was: {completion:?}"
        );
    }
    let status = fleet.queue.status().await.unwrap();
    assert_eq!(
        (status.ready, status.running, status.scheduled, status.dead),
        (0, 0, 0, 0)
    );
}

fn wait_for_runs(fleet: &Fleet, n: usize) {
    let count = || fleet.record().len();
    eventually_or(
        &format!("{n} tasks have run"),
        Duration::from_secs(60),
        || (count() >= n).then_some(()),
        || format!("only {} have", count()),
    );
}

/// Waits until a worker that stood still has learnt that its tasks are others' now: by its heartbeat, or, where they
/// ended meanwhile, when it posts their completions.
fn wait_until_it_knows(worker: &Running) {
    eventually("it has lost its lease", SOON, || {
        let said = worker.error_lines().concat();
        ["the lease ended", "another worker has this task"]
            .iter()
            .any(|news| said.contains(news))
            .then_some(())
    });
}

/// The attempts that ran, by the tasks' own record.
fn runs(fleet: &Fleet) -> HashMap<TaskId, Vec<u16>> {
    let mut runs = HashMap::<TaskId, Vec<u16>>::new();
    for line in fleet.record() {
        let (id, attempt) = line.trim().split_once(' ').unwrap();
        let attempts = runs.entry(id.parse().unwrap()).or_default();
        attempts.push(attempt.parse().unwrap());
    }
    runs
}
