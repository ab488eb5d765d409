//! A primary behind sentinels: what works on one server works on it, and another one that takes over is followed.

use std::time::Duration;

use pmq_broker::{Broker, Config, Due, Task};
use pmq_tests::program::Running;
use pmq_tests::sentinel::{PRIMARY, Sentinel};
use pmq_tests::{RedisServer, SentinelGroup, eventually, eventually_async};
use tokio::time::timeout;

use crate::everyday;
use crate::fleet::{Fleet, LONG, SOON, name};
use crate::load::{Producer, all_is_done, works_again};

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_every_word_work_by_way_of_sentinels() {
    let group = SentinelGroup::start();
    let fleet = Fleet::at(group.url()).await;
    let worker = fleet.worker("-c 2 --allow-commands");
    everyday::commands_work(&fleet).await;
    drop(worker);
    everyday::words_work(fleet.queue.broker(), "w").await;
    everyday::a_pool_works(&fleet).await;
}

/// A fleet with a worker and a producer.
struct Scene {
    group: SentinelGroup,
    fleet: Fleet,
    _worker: Running,
    producer: Producer,
}

impl Scene {
    async fn set() -> Self {
        let group = SentinelGroup::start();
        let fleet = Fleet::at(group.url()).await;
        let worker = fleet.worker("-c 2 --allow-commands");
        let producer = Producer::start(&fleet);
        let _ = fleet.wait_for_record(20);
        Self {
            group,
            fleet,
            _worker: worker,
            producer,
        }
    }

    /// After another server took over: all goes on, and nothing that was acknowledged is lost.
    async fn goes_on(self) -> (SentinelGroup, Fleet) {
        let probe = works_again(&self.fleet).await;
        let mut submitted = self.producer.stop().await;
        submitted.acknowledged.insert(probe);
        all_is_done(&self.fleet, &submitted).await;
        (self.group, self.fleet)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_killed_costs_the_failover_and_no_task() {
    let mut scene = Scene::set().await;
    scene.group.servers_mut()[0].kill();
    let _ = scene.group.wait_for_failover(0);
    let (mut group, fleet) = scene.goes_on().await;
    // What it was before it is no more: it comes back as a replica, which nobody writes to.
    group.servers_mut()[0].restart();
    everyday::words_work(fleet.queue.broker(), "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_stands_still_costs_the_failover() {
    let mut scene = Scene::set().await;
    scene.group.servers_mut()[0].stop();
    // A sentinel that stands still as well does not hold anybody up for long.
    scene.group.sentinels_mut()[0].stop();
    let _ = scene.group.wait_for_failover(0);
    let (mut group, fleet) = scene.goes_on().await;
    group.servers_mut()[0].resume();
    everyday::words_work(fleet.queue.broker(), "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_cut_off_but_answers_is_left_for_the_new_one() {
    let scene = Scene::set().await;
    scene.group.isolate(0);
    let primary = scene.group.wait_for_failover(0);
    let mut there = scene.group.servers()[primary].connection();
    let queue = &scene.fleet.queue;
    let tasks = format!("pmq:{{{}/0}}:tasks", queue.name());
    eventually_async(
        "submits arrive at the new primary",
        Duration::from_secs(2),
        async || {
            let mut task = Task::handler("later", "");
            task.due = Due::After(LONG);
            queue.submit(&task).await.unwrap();
            let known: bool = redis::cmd("HEXISTS")
                .arg(&tasks)
                .arg(task.id.as_bytes())
                .query(&mut there)
                .unwrap();
            known.then_some(())
        },
    )
    .await;
    // What it took since it was cut off is lost, as the table of promises says. All else goes on.
    let _ = scene.producer.stop().await;
    let before = works_again(&scene.fleet).await;
    let mut consumer = scene.fleet.consumer();
    eventually_async("what was left is done", SOON, async || {
        let done = consumer
            .get_many(500, Duration::from_secs(1))
            .await
            .unwrap();
        done.iter()
            .any(|completion| completion.id == before)
            .then_some(())
    })
    .await;
    scene.group.rejoin(0);
    everyday::words_work(scene.fleet.queue.broker(), "after").await;
}

/// A task that a new client submits is on this server.
async fn a_new_client_goes_to(group: &SentinelGroup, url: &str, server: usize) {
    let broker = Broker::connect(&Config::url(url)).await.unwrap();
    let task = Task::handler("t", "");
    broker.task_queue(&name("q")).submit(&task).await.unwrap();
    let known: bool = redis::cmd("HEXISTS")
        .arg("pmq:{q/0}:tasks")
        .arg(task.id.as_bytes())
        .query(&mut group.servers()[server].connection())
        .unwrap();
    assert!(known, "the submit went to another server than {server}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_that_leads_a_failover_leads_nobody_to_the_old_primary_that_is_back_meanwhile() {
    let mut group = SentinelGroup::start();
    // The replica that is not promoted can't follow the other, so that the sentinel that leads the failover does not end it.
    for replica in &group.servers()[1..] {
        redis::cmd("CONFIG")
            .arg(&["SET", "masterauth", "wrong"])
            .exec(&mut replica.connection())
            .unwrap();
    }
    group.servers_mut()[0].kill();
    let leads = |sentinel: &Sentinel| sentinel.log().contains("+failover-state-reconf-slaves");
    let leader = eventually("a replica is promoted", LONG, || {
        group.sentinels_mut().iter().position(leads)
    });
    let primary = eventually("it says so itself", LONG, || {
        let is_primary = |server: &RedisServer| {
            let role = redis::cmd("ROLE").query::<Vec<redis::Value>>(&mut server.connection());
            role.unwrap()[0] == redis::Value::BulkString(b"master".to_vec())
        };
        let promoted = group.servers()[1..].iter().position(is_primary);
        promoted.map(|replica| replica + 1)
    });
    group.servers_mut()[0].restart();
    let log = group.sentinels_mut()[leader].log();
    assert!(!log.contains("+failover-end"), "{log}");
    let url = format!(
        "redis+sentinel://127.0.0.1:{}/{PRIMARY}",
        group.sentinels_mut()[leader].port()
    );
    a_new_client_goes_to(&group, &url, primary).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentinel_that_slept_through_a_failover_leads_nobody_to_the_old_primary() {
    let mut group = SentinelGroup::start();
    group.sentinels_mut()[2].kill();
    group.servers_mut()[0].kill();
    let primary = group.wait_for_failover(0);
    for sentinel in &mut group.sentinels_mut()[..2] {
        sentinel.stop();
    }
    // Back with its data, before those who know better can make it a replica.
    group.servers_mut()[0].restart();
    group.sentinels_mut()[2].restart();
    let url = group.url();
    let config = Config::url(&url);
    // After 8 s such a sentinel makes the new primary a replica of the old one: nothing helps any more.
    let connected = timeout(Duration::from_secs(4), Broker::connect(&config)).await;
    assert!(
        !matches!(connected, Ok(Ok(_))),
        "it went to the old primary"
    );
    group.sentinels_mut()[2].stop();
    for sentinel in &mut group.sentinels_mut()[..2] {
        sentinel.resume();
    }
    a_new_client_goes_to(&group, &url, primary).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_found_is_said() {
    let group = SentinelGroup::start();
    let refusal = async |url: &str| {
        let error = Broker::connect(&Config::url(url)).await.err().unwrap();
        error.to_string()
    };
    let wrong = group.url().replace(PRIMARY, "other");
    assert!(refusal(&wrong).await.contains("sentinel monitor"));
    let server = RedisServer::builder().tcp(true).start();
    let address = server.url().replacen("redis://", "", 1);
    let error = refusal(&format!("redis+sentinel://{address}/{PRIMARY}")).await;
    assert!(error.contains("no sentinel"), "{error}");
    let sentinel = group.url().replacen("redis+sentinel", "redis", 1);
    let sentinel = sentinel.split(',').next().unwrap();
    let error = refusal(sentinel).await;
    assert!(error.contains("redis+sentinel://"), "{error}");
}
