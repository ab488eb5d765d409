//! A Redis Cluster: what works on one server works on it.

use std::time::{Duration, Instant};

use pmq_broker::task_queue::Settings;
use pmq_broker::{Broker, Config, Task};
use pmq_tests::Cluster;

use crate::everyday;
use crate::fleet::{Fleet, SOON, pmq_at};
use crate::shards::{check_wakes, on};

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_every_word_work_on_a_cluster_of_three() {
    let cluster = Cluster::start(3);
    // One node is enough to find the others.
    let url = cluster.urls()[1].replacen("redis://", "redis+cluster://", 1);
    let fleet = Fleet::at(url).await;
    assert!(fleet.queue.broker().is_cluster());
    let worker = fleet.worker("-c 2 --allow-commands");
    everyday::commands_work(&fleet).await;
    drop(worker);
    for round in 0..6 {
        everyday::words_work(fleet.queue.broker(), &format!("w{round}")).await;
    }
    everyday::a_pool_works(&fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_spread_over_all_primaries_and_workers_hear_of_each_shard() {
    let cluster = Cluster::start(3);
    let fleet = Fleet::at(cluster.url()).await;
    let shards = fleet.queue.open().await.unwrap();
    let mut owned = [0; 3];
    for shard in shards {
        owned[cluster.owner_of(cluster.slot_of(&shard.keys().fixed()[0]))] += 1;
    }
    assert_eq!(owned.iter().sum::<usize>(), 16);
    assert!(owned.iter().all(|n| (5..=6).contains(n)), "{owned:?}");
    check_wakes(&fleet, 16).await;
    // Many at once, for workers that were idle, and consumers of all shards.
    let _workers = [fleet.handlers(4), fleet.handlers(4)];
    let tasks: Vec<Task> = (0..2000)
        .map(|_| Task::handler("record", "").with_key(&format!("{}", fastrand::u8(..))))
        .collect();
    fleet.queue.submit_many(&tasks).await.unwrap();
    assert_eq!(fleet.completions(2000).await.len(), 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_worker_held_runs_elsewhere_in_time_whatever_shard_it_is_on() {
    const LEASE: Duration = Duration::from_secs(6);
    let cluster = Cluster::start(3);
    let fleet = Fleet::at(cluster.url()).await;
    let mut doomed = fleet.worker("-c 16 --lease 6s --allow-commands");
    let hold = "record; [ $PMQ_ATTEMPT -ge 2 ] || exec sleep 600";
    let tasks: Vec<Task> = (0..16).map(|s| on(s, fleet.sh(hold))).collect();
    fleet.queue.submit_many(&tasks).await.unwrap();
    fleet.wait_for_record(16);
    // It has nothing to do on any shard, and is the only one left to hear of the leases that end.
    let _other = fleet.worker("-c 4 --lease 6s --allow-commands");
    doomed.kill();
    let killed = Instant::now();
    fleet.wait_for_record(32);
    let took = killed.elapsed();
    // If a shard took the silence for an outage it would wait for one lease more.
    assert!(took < LEASE + LEASE * 3 / 4, "{took:?}");
    assert_eq!(fleet.completions(16).await.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_waits_for_room_on_a_completion_queue_is_woken_by_who_makes_it() {
    let cluster = Cluster::start(3);
    let fleet = Fleet::at(cluster.url()).await;
    let settings = Settings {
        completions_max: Some(16),
        ..Settings::default()
    };
    fleet.queue.configure(&settings).await.unwrap();
    let tasks: Vec<Task> = (0..12).map(|_| on(5, fleet.sh("true"))).collect();
    fleet.queue.submit_many(&tasks).await.unwrap();
    let _worker = fleet.worker("-c 1 --allow-commands");
    let mut consumer = fleet.consumer();
    let start = Instant::now();
    for _ in 0..12 {
        assert!(consumer.get(SOON).await.unwrap().is_some());
    }
    // Each has to wait for the one before to be taken; without a token a worker would look after up to 5 s.
    let took = start.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_without_the_library_has_it_loaded() {
    let cluster = Cluster::start(3);
    let broker = Broker::connect(&Config::url(cluster.url())).await.unwrap();
    broker.load_functions().await.unwrap();
    for (index, node) in cluster.nodes().iter().enumerate() {
        let mut connection = node.connection();
        let flush = redis::cmd("FUNCTION").arg("FLUSH").exec(&mut connection);
        flush.unwrap();
        let tag = |queue: &str| format!("{{{queue}/0}}");
        let queue = cluster.name_at(index, "q", tag);
        let queue = broker.task_queue(&crate::fleet::name(&queue));
        queue.submit(&Task::handler("t", "")).await.unwrap();
        assert_eq!(queue.status().await.unwrap().ready, 1);
    }
}

#[test]
fn the_doctor_looks_at_each_primary_and_says_what_is_promised() {
    let cluster = Cluster::with_replicas(3);
    let pmq = pmq_at(&cluster.url());
    let flags = ["doctor", "--json", "--durability", "replicated"];
    let checks = pmq.run(flags).expect_code(0).json();
    let found = |subject: &str| -> Vec<&str> {
        let of_it = checks.iter().filter(|check| check["check"] == subject);
        of_it
            .map(|check| check["found"].as_str().unwrap())
            .collect()
    };
    for node in &cluster.nodes()[..3] {
        let at = format!("127.0.0.1:{}: ", node.port().unwrap());
        for subject in ["version", "persistence", "replicas"] {
            let line = found(subject)
                .into_iter()
                .find(|found| found.starts_with(&at));
            assert!(line.is_some(), "{subject} of {at}: {checks:?}");
        }
    }
    assert_eq!(found("slots"), ["16384 of 16384, on 3 servers"]);
    assert!(
        found("replicas")
            .iter()
            .all(|found| found.contains("1 replica,"))
    );
    assert!(
        found("promise")
            .iter()
            .all(|promise| promise.contains(", lost if "))
    );
    let promises = found("promise");
    let in_use = |promise: &&&str| promise.starts_with("replicated (in use), ");
    assert_eq!(
        (promises.len(), promises.iter().filter(in_use).count()),
        (12, 4)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_server_and_a_cluster_are_not_mistaken_for_each_other() {
    let server = pmq_tests::RedisServer::builder().tcp(true).start();
    let url = server.url().replacen("redis://", "redis+cluster://", 1);
    let error = Broker::connect(&Config::url(url)).await.err().unwrap();
    assert!(
        error.to_string().contains("begins with redis://"),
        "{error}"
    );
    let cluster = Cluster::start(2);
    let url = &cluster.urls()[0];
    let error = Broker::connect(&Config::url(url)).await.err().unwrap();
    assert!(error.to_string().contains("redis+cluster://"), "{error}");
}
