//! Work goes on while primaries are killed, stand still, or give slots away; nothing that was acknowledged is lost.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pmq_broker::task_queue::Ending;
use pmq_broker::{Broker, Config, Outcome, TaskId};
use pmq_tests::program::Running;
use pmq_tests::{Cluster, eventually_async};
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use crate::everyday;
use crate::fleet::{Fleet, LONG, name, pass, sh};

/// How long after a failover everything works again.
const RESUMED: Duration = Duration::from_secs(5);

/// Between two tasks of a producer: what two slots can do, also on a busy machine.
const PACE: Duration = Duration::from_millis(25);

/// A fleet whose queue belongs to this node.
async fn fleet_at(cluster: &Cluster, node: usize) -> Fleet {
    let mut fleet = Fleet::at(cluster.url()).await;
    let queue = cluster.name_at(node, "at", |queue| format!("{{{queue}/0}}"));
    fleet.queue = fleet.queue.broker().task_queue(&name(&queue));
    fleet
}

/// Submits tasks, one after another, until it is stopped.
struct Producer {
    stopped: Arc<AtomicBool>,
    submitted: JoinHandle<Submitted>,
}

#[derive(Default)]
struct Submitted {
    acknowledged: HashSet<TaskId>,
    /// Whether they exist nobody knows.
    unknown: HashSet<TaskId>,
    /// The longest that one took.
    longest: Duration,
}

impl Producer {
    fn start(fleet: &Fleet) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let (queue, stop) = (fleet.queue.clone(), stopped.clone());
        let directory = fleet.path("");
        let submitted = tokio::spawn(async move {
            let mut submitted = Submitted::default();
            let mut pace = interval(PACE);
            while !stop.load(Ordering::Relaxed) {
                pace.tick().await;
                let (task, start) = (sh("record", &directory), Instant::now());
                let known = match queue.submit(&task).await {
                    Ok(_) => &mut submitted.acknowledged,
                    Err(_) => &mut submitted.unknown,
                };
                known.insert(task.id);
                submitted.longest = submitted.longest.max(start.elapsed());
            }
            submitted
        });
        Self { stopped, submitted }
    }

    async fn stop(self) -> Submitted {
        self.stopped.store(true, Ordering::Relaxed);
        self.submitted.await.unwrap()
    }
}

/// All that was acknowledged is done, each once.
async fn all_is_done(fleet: &Fleet, submitted: &Submitted) {
    let mut consumer = fleet.consumer();
    let (mut done, mut left) = (HashSet::new(), submitted.acknowledged.clone());
    let end = Instant::now() + LONG;
    while !left.is_empty() {
        assert!(Instant::now() < end, "not done: {left:?}");
        let batch = consumer.get_many(500, Duration::from_secs(1)).await;
        for completion in batch.unwrap_or_default() {
            assert_eq!(completion.outcome, Outcome::Ok);
            assert!(
                done.insert(completion.id),
                "completed twice: {completion:?}"
            );
            left.remove(&completion.id);
        }
    }
    let strange: Vec<_> = done
        .difference(&submitted.acknowledged)
        .filter(|id| !submitted.unknown.contains(id))
        .collect();
    assert!(strange.is_empty(), "nobody submitted {strange:?}");
    consumer.close().await.unwrap();
}

/// A task that is submitted now is done soon; answers which.
async fn works_again(fleet: &Fleet) -> TaskId {
    let start = Instant::now();
    let mut first = fleet.sh("true");
    first.priority = 9;
    let id = fleet.submit(&first).await;
    let endings = fleet.queue.wait(&[id], RESUMED).await.unwrap();
    let done = matches!(endings[..], [Ending::Ended(_)]);
    assert!(done, "not done within {RESUMED:?}: {endings:?}");
    let took = start.elapsed();
    assert!(took < RESUMED, "{took:?}");
    id
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
