//! A primary of a sharded queue that stands still: the tasks of its shards wait, and no others do.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pmq_broker::task_queue::Consumer;
use pmq_broker::{Task, TaskId};
use pmq_tests::Cluster;
use pmq_tests::program::Running;

use crate::fleet::{Fleet, LONG};
use crate::shards::on;

const SHARDS: u16 = 16;
/// How long tasks may take that have nothing to do with the primary, on a very busy machine: a worker and a consumer give
/// it a second, now and then, and it stands still for longer than this.
const UNTROUBLED: Duration = Duration::from_secs(20);

/// A queue over three primaries, of which one does not answer.
struct Scene {
    cluster: Cluster,
    lost: usize,
    fleet: Fleet,
    /// The shards on the lost one, and the others.
    hit: Vec<u16>,
    spared: Vec<u16>,
    consumer: Consumer,
    _worker: Running,
}

impl Scene {
    /// Where the primary of the first shard stands still, or the next one.
    async fn set(cluster: Cluster, first: bool) -> Self {
        let fleet = Fleet::at(cluster.url()).await;
        let shards = fleet.queue.open().await.unwrap().to_vec();
        let owner = |s: u16| {
            let key = &shards[usize::from(s)].keys().fixed()[0];
            cluster.owner_of(cluster.slot_of(key))
        };
        let lost = if first { owner(0) } else { (owner(0) + 1) % 3 };
        let (hit, spared): (Vec<u16>, Vec<u16>) = (0..SHARDS).partition(|s| owner(*s) == lost);
        assert!(hit.len() >= 5, "{hit:?}");
        let worker = fleet.worker("-c 4 --allow-commands");
        let consumer = fleet.consumer();
        let mut scene = Self {
            cluster,
            lost,
            fleet,
            hit,
            spared,
            consumer,
            _worker: worker,
        };
        let all = scene.submit(0..SHARDS).await;
        scene.collect(all).await;
        scene.cluster.nodes_mut()[lost].stop();
        scene
    }

    /// A task for each of these shards.
    async fn submit(&self, shards: impl IntoIterator<Item = u16>) -> HashSet<TaskId> {
        let mut ids = HashSet::new();
        for shard in shards {
            ids.insert(self.fleet.submit(&self.task(shard)).await);
        }
        ids
    }

    fn task(&self, shard: u16) -> Task {
        on(shard, self.fleet.sh("record"))
    }

    /// Gets the completions of these tasks, each once, and no others.
    async fn collect(&mut self, mut ids: HashSet<TaskId>) {
        let end = Instant::now() + LONG;
        while !ids.is_empty() {
            assert!(Instant::now() < end, "not done: {ids:?}");
            let got = self.consumer.get_many(500, Duration::from_secs(1)).await;
            for completion in got.unwrap_or_default() {
                assert!(ids.remove(&completion.id), "{completion:?}");
            }
        }
    }

    /// What has nothing to do with the lost primary goes on.
    async fn others_go_on(&mut self) {
        for _ in 0..2 {
            let start = Instant::now();
            let spared = self.submit(self.spared.clone()).await;
            assert!(start.elapsed() < UNTROUBLED, "{:?}", start.elapsed());
            self.collect(spared).await;
            assert!(start.elapsed() < UNTROUBLED, "{:?}", start.elapsed());
        }
        let status = self.fleet.queue.status().await.unwrap();
        for (shard, status) in (0..).zip(&status.shards) {
            assert_eq!(status.is_none(), self.hit.contains(&shard), "{shard}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tasks_of_a_hung_primary_wait_until_it_goes_on_and_no_others() {
    let mut scene = Scene::set(Cluster::start(3), false).await;
    let late = scene.task(scene.hit[0]);
    let submitting = {
        let (queue, late) = (scene.fleet.queue.clone(), late.clone());
        tokio::spawn(async move { queue.submit(&late).await })
    };
    scene.others_go_on().await;
    // Nobody knows whether it was taken; the same again is the same task.
    assert!(submitting.await.unwrap().is_err());
    scene.cluster.nodes_mut()[scene.lost].resume();
    scene.fleet.submit(&late).await;
    let mut all = scene.submit(0..SHARDS).await;
    all.insert(late.id);
    scene.collect(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tasks_of_a_hung_primary_go_on_when_its_replica_has_taken_over() {
    let mut scene = Scene::set(Cluster::with_replicas(3), true).await;
    let spared = scene.submit(scene.spared.clone()).await;
    scene.collect(spared).await;
    let _ = scene.cluster.wait_for_failover(scene.lost);
    let start = Instant::now();
    let all = scene.submit(0..SHARDS).await;
    scene.collect(all).await;
    assert!(start.elapsed() < UNTROUBLED, "{:?}", start.elapsed());
    scene.cluster.nodes_mut()[scene.lost].resume();
    let all = scene.submit(0..SHARDS).await;
    scene.collect(all).await;
}
