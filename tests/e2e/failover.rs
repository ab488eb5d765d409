//! Work goes on while primaries are killed, stand still, or give slots away; nothing that was acknowledged is lost.

use std::time::Duration;

use pmq_broker::{Broker, Config};
use pmq_tests::program::Running;
use pmq_tests::{Cluster, eventually_async};
use tokio::time::timeout;

use crate::everyday;
use crate::fleet::{Fleet, LONG, name, pass};
use crate::load::{Producer, all_is_done, works_again};
use crate::shards::check_wakes;

/// A fleet whose queue, of one shard, belongs to this node.
async fn fleet_at(cluster: &Cluster, node: usize) -> Fleet {
    let mut fleet = Fleet::at(cluster.url()).await;
    let queue = cluster.name_at(node, "at", |queue| format!("{{{queue}/0}}"));
    fleet.queue = fleet.queue.broker().task_queue(&name(&queue));
    fleet.queue.create(1).await.unwrap();
    fleet
}

/// What goes on while a primary is lost: a fleet on it, a fleet on another, a producer on each.
struct Scene {
    cluster: Cluster,
    lost: usize,
    hit: Fleet,
    spared: Fleet,
    workers: Vec<Running>,
    producers: [Producer; 2],
}

impl Scene {
    async fn set() -> Self {
        let cluster = Cluster::with_replicas(3);
        let (hit, spared) = (fleet_at(&cluster, 1).await, fleet_at(&cluster, 2).await);
        let workers = [&hit, &spared].map(|fleet| fleet.worker("-c 2 --allow-commands"));
        let producers = [&hit, &spared].map(Producer::start);
        for fleet in [&hit, &spared] {
            let _ = fleet.wait_for_record(20);
        }
        Self {
            cluster,
            lost: 1,
            hit,
            spared,
            workers: workers.into(),
            producers,
        }
    }

    /// After another node took over: both go on, nothing is lost or done twice, and the spared one has not noticed.
    async fn goes_on(self) -> (Cluster, Vec<Running>) {
        let probe = works_again(&self.hit).await;
        let [hit, spared] = self.producers;
        let (mut hit, spared) = (hit.stop().await, spared.stop().await);
        hit.acknowledged.insert(probe);
        all_is_done(&self.hit, &hit).await;
        all_is_done(&self.spared, &spared).await;
        let longest = spared.longest;
        assert!(
            longest < Duration::from_secs(2),
            "the other waited {longest:?}"
        );
        (self.cluster, self.workers)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_killed_under_load_costs_the_failover_and_no_task() {
    let mut scene = Scene::set().await;
    scene.cluster.nodes_mut()[scene.lost].kill();
    let _ = scene.cluster.wait_for_failover(scene.lost);
    let _ = scene.goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_stands_still_under_load_costs_the_failover_and_no_task() {
    let mut scene = Scene::set().await;
    let lost = scene.lost;
    scene.cluster.nodes_mut()[lost].stop();
    let _ = scene.cluster.wait_for_failover(lost);
    let fleet = Fleet::at(scene.cluster.url()).await;
    let (mut cluster, _workers) = scene.goes_on().await;
    // It comes back as a replica, and does no harm.
    cluster.nodes_mut()[lost].resume();
    everyday::words_work(fleet.queue.broker(), "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_to_and_fro_under_load_is_followed() {
    let cluster = Cluster::start(3);
    let fleet = fleet_at(&cluster, 0).await;
    let _worker = fleet.worker("-c 2 --allow-commands");
    let producer = Producer::start(&fleet);
    let slot = cluster.slot_of(&format!("{{{}/0}}", fleet.queue.name()));
    let mut probes = Vec::new();
    for round in 1..=4 {
        let _ = fleet.wait_for_record(20 * round);
        let migration = cluster.begin_migration(slot);
        pass(Duration::from_millis(300));
        migration.finish();
        probes.push(works_again(&fleet).await);
    }
    let mut submitted = producer.stop().await;
    submitted.acknowledged.extend(probes);
    all_is_done(&fleet, &submitted).await;
    assert_eq!(submitted.unknown.len(), 0, "a move is a delay and no error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_joins_under_load_takes_shards_over_and_gets_the_functions() {
    let mut cluster = Cluster::start(3);
    let fleet = Fleet::at(cluster.url()).await;
    let worker = fleet.worker("-c 2 --allow-commands");
    let producer = Producer::start(&fleet);
    let _ = fleet.wait_for_record(20);
    let new = cluster.add_primary();
    let shards = fleet.queue.open().await.unwrap().to_vec();
    let mut probes = Vec::new();
    for shard in shards.iter().step_by(4) {
        let slot = cluster.slot_of(&shard.keys().fixed()[0]);
        let migration = cluster.begin_migration_to(slot, new);
        // One key at a time, as a tool that moves slots does, while calls come in.
        let _ = migration.move_key(&shard.keys().fixed()[1]);
        pass(Duration::from_millis(100));
        migration.finish();
        assert_eq!(cluster.owner_of(slot), new);
        probes.push(works_again(&fleet).await);
    }
    let mut submitted = producer.stop().await;
    submitted.acknowledged.extend(probes);
    assert_eq!(submitted.unknown.len(), 0, "a move is a delay and no error");
    all_is_done(&fleet, &submitted).await;
    drop(worker);
    // Idle workers hear of tasks wherever they are now.
    check_wakes(&fleet, 16).await;
    let libraries: Vec<redis::Value> = redis::cmd("FUNCTION")
        .arg("LIST")
        .query(&mut cluster.nodes()[new].connection())
        .unwrap();
    assert_eq!(libraries.len(), 1, "it was loaded when it was missed");
}

#[tokio::test(flavor = "multi_thread")]
async fn fences_grow_and_locks_are_heard_over_a_failover() {
    let mut cluster = Cluster::with_replicas(3);
    let broker = Broker::connect(&Config::url(cluster.url())).await.unwrap();
    let lock = cluster.name_at(0, "lock", |lock| format!("{{{lock}}}"));
    let lock = broker.lock(&name(&lock));
    let held = lock.acquire().await.unwrap();
    let before = held.fence();
    cluster.nodes_mut()[0].kill();
    let _ = cluster.wait_for_failover(0);
    held.release().await.unwrap();
    let again = timeout(LONG, lock.acquire()).await.unwrap().unwrap();
    assert!(again.fence() > before);
    // Who waits is told of the release, and does not only find out when it asks again.
    let waiter = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire_timeout(LONG).await.unwrap().unwrap().fence() }
    });
    eventually_async("it waits", LONG, async || {
        (lock.waiting().await.unwrap() == 1).then_some(())
    })
    .await;
    let fence = again.fence();
    again.release().await.unwrap();
    assert!(waiter.await.unwrap() > fence);
}
