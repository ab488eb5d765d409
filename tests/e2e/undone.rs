//! A server that comes back without its last writes: a run whose end it has lost is run again, though its worker, which
//! knows of nothing, is never idle.

use std::fs;

use pmq_broker::{Outcome, Task, TaskId};
use pmq_tests::program::Running;
use pmq_tests::{RedisServer, eventually, eventually_async};

use crate::fleet::{Fleet, LONG, SOON, collect};

/// A worker that holds two tasks, of which one has ended, and a server that is back without that end.
struct Scene {
    fleet: Fleet,
    _server: RedisServer,
    _worker: Running,
    goes_on: TaskId,
    undone: TaskId,
}

impl Scene {
    async fn set() -> Self {
        let mut server = RedisServer::start();
        let fleet = Fleet::at(server.url()).await;
        let worker = fleet.worker("-c 2 --lease 1s --allow-commands");
        let goes_on = start(&fleet, "goes-on").await;
        let undone = start(&fleet, "undone").await;
        redis::cmd("SAVE").exec(&mut server.connection()).unwrap();
        end(&fleet, "undone");
        let done = format!("pmq:{{{}/0}}:done:done", fleet.queue.name());
        let mut connection = server.connection();
        eventually("its end is known", SOON, || {
            let ended = redis::cmd("LLEN").arg(&done).query::<u64>(&mut connection);
            (ended.unwrap() == 1).then_some(())
        });
        server.kill();
        server.restart();
        Self {
            fleet,
            _server: server,
            _worker: worker,
            goes_on,
            undone,
        }
    }

    fn runs(&self, task: TaskId) -> Vec<String> {
        let id = task.to_string();
        let mut lines = self.fleet.record();
        lines.retain(|line| line.starts_with(&id));
        lines
    }

    fn ran_again(&self) -> bool {
        let runs = self.runs(self.undone);
        assert!(runs.iter().all(|run| run.contains(" 1 ")), "{runs:?}");
        runs.len() == 2
    }
}

/// Submits a task that runs until it is told to end, and waits until it runs.
async fn start(fleet: &Fleet, name: &str) -> TaskId {
    let script = format!("record {name}; while ! [ -e $DIR/end-{name} ]; do sleep 0.02; done");
    let task: Task = fleet.sh(&script);
    fleet.submit(&task).await;
    let id = task.id.to_string();
    eventually("it runs", LONG, || {
        let runs = fleet.record().iter().any(|line| line.starts_with(&id));
        runs.then_some(())
    });
    task.id
}

fn end(fleet: &Fleet, name: &str) {
    fs::write(fleet.path(&format!("end-{name}")), "").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_does_not_know_that_it_holds_runs_again_while_a_long_run_of_it_goes_on() {
    let scene = Scene::set().await;
    eventually("it is run again", SOON, || scene.ran_again().then_some(()));
    assert_eq!(scene.runs(scene.goes_on).len(), 1);
    end(&scene.fleet, "goes-on");
    for completion in collect(&mut scene.fleet.consumer(), 2).await.values() {
        assert_eq!((completion.outcome, completion.attempt), (Outcome::Ok, 1));
    }
    assert_eq!(scene.runs(scene.goes_on).len(), 1, "its lease went on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_does_not_know_that_it_holds_runs_again_though_it_is_never_idle() {
    let scene = Scene::set().await;
    let mut last = "goes-on".to_owned();
    // One begins before another ends, so that the worker holds something all the time.
    for i in 0.. {
        assert!(i < 500, "it was not run again");
        let next = format!("busy-{i}");
        start(&scene.fleet, &next).await;
        end(&scene.fleet, &last);
        last = next;
        if scene.ran_again() {
            break;
        }
    }
    end(&scene.fleet, &last);
    eventually_async("all have ended", SOON, async || {
        let status = scene.fleet.queue.status().await.unwrap();
        (status.running == 0 && status.ready == 0).then_some(())
    })
    .await;
}
