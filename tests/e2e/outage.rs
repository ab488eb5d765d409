//! A broker that is away, or a network that is: longer than the leases, and it costs no attempt and no second run.

use std::fs;
use std::time::{Duration, Instant};

use pmq_broker::task_queue::Ask;
use pmq_broker::{Broker, Config, Incarnation, Outcome, Task};
use pmq_tests::program::Running;
use pmq_tests::{Proxy, RedisServer, eventually};

use crate::fleet::{Fleet, LONG, SOON, collect, pass, pmq_at};

const LEASE: Duration = Duration::from_secs(2);
const FOUR_LEASES: Duration = Duration::from_secs(8);

/// Two workers with two tasks each, which run until they are released.
struct Scene {
    fleet: Fleet,
    workers: [Running; 2],
}

impl Scene {
    async fn set(fleet: Fleet, url: &str) -> Self {
        let pmq = pmq_at(url);
        let workers = [0; 2].map(|_| fleet.worker_of(&pmq, "-c 2 --lease 2s --allow-commands"));
        let script = "record; while ! [ -e $DIR/release ]; do sleep 0.05; done";
        for _ in 0..4 {
            fleet.submit(&fleet.sh(script)).await;
        }
        fleet.wait_for_record(4);
        Self { fleet, workers }
    }

    /// After the outage: whoever would take a task over has the time to do so, and does not.
    async fn must_have_cost_nothing(mut self) {
        pass(LEASE * 2);
        fs::write(self.fleet.path("release"), "").unwrap();
        let completions = collect(&mut self.fleet.consumer(), 4).await;
        for completion in completions.values() {
            assert_eq!((completion.outcome, completion.attempt), (Outcome::Ok, 1));
        }
        assert_eq!(self.fleet.record().len(), 4, "nothing ran twice");
        assert!(self.workers.iter_mut().all(Running::is_running));
        // They work again, and have room for what comes.
        self.fleet.submit(&self.fleet.sh("true")).await;
        assert_eq!(self.fleet.completion().await.outcome, Outcome::Ok);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_down_for_four_leases_costs_no_attempt_and_no_rerun() {
    let mut server = RedisServer::builder().aof(true).start();
    let scene = Scene::set(Fleet::at(server.url()).await, &server.url()).await;
    server.kill();
    pass(FOUR_LEASES);
    server.restart();
    scene.must_have_cost_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_stands_still_for_four_leases_costs_no_attempt_and_no_rerun() {
    let mut server = RedisServer::start();
    let scene = Scene::set(Fleet::at(server.url()).await, &server.url()).await;
    server.stop();
    pass(FOUR_LEASES);
    server.resume();
    scene.must_have_cost_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_for_four_leases_costs_no_attempt_and_no_rerun() {
    let server = RedisServer::builder().tcp(true).start();
    let proxy = Proxy::to(&server);
    let scene = Scene::set(Fleet::at(server.url()).await, proxy.url()).await;
    proxy.hole(true);
    pass(FOUR_LEASES);
    proxy.hole(false);
    scene.must_have_cost_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_end_while_redis_is_away_are_committed_when_it_is_back() {
    let mut server = RedisServer::builder().aof(true).start();
    let fleet = Fleet::at(server.url()).await;
    let _worker = fleet.worker("-c 4 --lease 2s --allow-commands");
    let script =
        "record; while ! [ -e $DIR/release ]; do sleep 0.05; done; touch $DIR/ended$PMQ_SLOT";
    for _ in 0..4 {
        fleet.submit(&fleet.sh(script)).await;
    }
    fleet.wait_for_record(4);
    server.kill();
    fs::write(fleet.path("release"), "").unwrap();
    for slot in 1..=4 {
        let path = fleet.path(&format!("ended{slot}"));
        eventually("the run has ended", SOON, || path.exists().then_some(()));
    }
    server.restart();
    for completion in collect(&mut fleet.consumer(), 4).await.values() {
        assert_eq!((completion.outcome, completion.attempt), (Outcome::Ok, 1));
    }
    assert_eq!(fleet.record().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_stops_in_time_also_while_redis_is_away_and_its_task_runs_elsewhere() {
    let mut server = RedisServer::builder().aof(true).start();
    let fleet = Fleet::at(server.url()).await;
    let flags = "-c 1 --lease 2s --grace 100ms --kill-after 100ms --allow-commands";
    let worker = fleet.worker(flags);
    fleet
        .submit(&fleet.sh("record; [ $PMQ_ATTEMPT -ge 2 ] || exec sleep 600"))
        .await;
    fleet.wait_for_record(1);
    server.kill();
    worker.terminate();
    let asked = Instant::now();
    let _ = worker.wait().expect_code(0);
    assert!(
        asked.elapsed() < Duration::from_secs(15),
        "{:?}",
        asked.elapsed()
    );
    server.restart();
    let _next = fleet.worker(flags);
    assert_eq!(fleet.completion().await.attempt, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_are_flushed_again_and_again_are_loaded_again() {
    let server = RedisServer::start();
    let fleet = Fleet::at(server.url()).await;
    let _workers = [0; 2].map(|_| fleet.worker("-c 2 --allow-commands"));
    let tasks: Vec<Task> = (0..200).map(|_| fleet.sh("record")).collect();
    fleet.queue.submit_many(&tasks).await.unwrap();
    let mut connection = server.connection();
    let (mut flushed, mut before) = (0, None);
    eventually("all tasks have run", LONG, || {
        // Whenever one more has run: on a busy machine a call may need longer than this loop.
        let ran = fleet.record().len();
        if before.replace(ran) != Some(ran) {
            redis::cmd("FUNCTION")
                .arg("FLUSH")
                .exec(&mut connection)
                .unwrap();
            flushed += 1;
        }
        (ran == tasks.len()).then_some(())
    });
    for completion in fleet.completions(tasks.len()).await.values() {
        assert_eq!((completion.outcome, completion.attempt), (Outcome::Ok, 1));
    }
    assert!(flushed > 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_lost_everything_stops_what_runs_and_takes_new_tasks() {
    let server = RedisServer::start();
    let fleet = Fleet::at(server.url()).await;
    let worker = fleet.worker("-c 1 --lease 1s --allow-commands");
    fleet.submit(&fleet.sh("record; exec sleep 600")).await;
    fleet.wait_for_record(1);
    redis::cmd("FLUSHALL")
        .exec(&mut server.connection())
        .unwrap();
    let _ = worker.wait_for_line("the lease ended");
    fleet.submit(&fleet.sh("true")).await;
    assert_eq!(fleet.completion().await.outcome, Outcome::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_reply_is_lost_brings_the_same_tasks_again() {
    let server = RedisServer::start();
    let proxy = Proxy::to(&server);
    let fleet = Fleet::at(server.url()).await;
    let tasks: Vec<Task> = (0..100).map(|_| Task::handler("t", "")).collect();
    fleet.queue.submit_many(&tasks).await.unwrap();
    let broker = Broker::connect(&Config::url(proxy.url())).await.unwrap();
    let queue = broker.task_queue(fleet.queue.name());
    let mut claimer = queue.first().claimer(Incarnation::new(), LEASE, None);
    let ask = Ask {
        n: 60,
        suspect: false,
        wait: false,
    };
    proxy.drop_next_reply();
    let first = claimer.get_nowait(ask).await.unwrap().tasks;
    assert_eq!((first.len(), proxy.replies_dropped()), (60, 1));
    let second = claimer.get_nowait(ask).await.unwrap().tasks;
    let got: Vec<_> = first.iter().chain(&second).map(|claim| claim.id).collect();
    let sent: Vec<_> = tasks.iter().map(|task| task.id).collect();
    assert_eq!(got, sent, "in order, none lost, none twice");
    assert_eq!(fleet.queue.status().await.unwrap().running, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_lost_all_the_time_lose_no_task_and_run_none_twice() {
    const TASKS: usize = 500;
    let server = RedisServer::start();
    let proxy = Proxy::to(&server);
    let fleet = Fleet::at(server.url()).await;
    let pmq = pmq_at(proxy.url());
    let _workers = [0; 2].map(|_| fleet.worker_of(&pmq, "-c 4 --lease 10s --allow-commands"));
    let tasks: Vec<Task> = (0..TASKS).map(|_| fleet.sh("record")).collect();
    fleet.queue.submit_many(&tasks).await.unwrap();
    // For every ten tasks that ran a reply is lost, of whatever call comes next.
    let mut lost = 0;
    eventually("all tasks have run", LONG, || {
        let ran = fleet.record().len();
        if ran / 10 > lost {
            proxy.drop_next_reply();
            lost += 1;
        }
        (ran >= TASKS).then_some(())
    });
    let completions = fleet.completions(TASKS).await;
    assert!(
        completions
            .values()
            .all(|completion| completion.outcome == Outcome::Ok && completion.attempt == 1)
    );
    assert_eq!(fleet.record().len(), TASKS, "each ran once");
    assert!(proxy.replies_dropped() > 20, "{}", proxy.replies_dropped());
}
