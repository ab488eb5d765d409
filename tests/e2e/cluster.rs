//! A Redis Cluster: what works on one server works on it, and goes on while its primaries change.

use std::time::Duration;

use pmq_broker::{Broker, Config, Outcome};
use pmq_tests::Cluster;

use crate::fleet::{Fleet, name};

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_submitted_run_and_looked_up_on_a_cluster_of_three() {
    let cluster = Cluster::start(3);
    // One node is enough to find the others.
    let url = cluster.urls()[1].replacen("redis://", "redis+cluster://", 1);
    let fleet = Fleet::at(url).await;
    assert!(fleet.queue.broker().is_cluster());
    let _worker = fleet.worker("-c 2 --allow-commands");
    for _ in 0..20 {
        fleet.submit(&fleet.sh("record")).await;
    }
    for completion in fleet.completions(20).await.values() {
        assert_eq!((completion.outcome, completion.attempt), (Outcome::Ok, 1));
    }
    let queue = fleet.queue.name().as_str();
    let pmq = fleet.pmq();
    let id = pmq.run(["submit", "-q", queue, "--allow-unsigned", "--", "true"]);
    drop(id);
    let finished = pmq
        .run(["map", "-q", queue, "echo", ":::", "a", "b"])
        .expect_code(0);
    let mut lines: Vec<_> = finished.text().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["a", "b"]);
    let finished = pmq.run(["run", "-q", queue, "--", "sh", "-c", "echo out; exit 3"]);
    assert_eq!(finished.expect_code(3).text(), "out\n");
    let finished = pmq.run(["lock", "l", "--", "echo", "held"]).expect_code(0);
    assert_eq!(finished.text(), "held\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_and_queues_of_many_slots_work_on_a_cluster() {
    let cluster = Cluster::start(3);
    let broker = Broker::connect(&Config::url(cluster.url())).await.unwrap();
    for number in 0..12 {
        let name = name(&format!("n{number}"));
        let lock = pmq_broker::Lock::named(&broker, &name);
        let held = lock.acquire().await.unwrap();
        assert!(
            lock.acquire_timeout(Duration::ZERO)
                .await
                .unwrap()
                .is_none()
        );
        held.release().await.unwrap();
    }
}
