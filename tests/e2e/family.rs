//! Processes and those who started them: daemons, parents, children.

use std::fs;
use std::time::Instant;

use pmq_broker::process::{
    CurrentProcess, active_children, at_exit, cpu_count, current_process, leave as leave_children,
    parent_process,
};
use pmq_broker::task_queue::DEFAULT_LEASE;
use pmq_broker::typed::Task;
use pmq_broker::{Process, ProcessError};
use pmq_tests::program::Running;
use pmq_tests::{Redis, RedisServer, eventually, eventually_async, shared};

use crate::fleet::{Fleet, LONG, SOON, is_alive, sh};
use crate::process::{FOREVER, SQUARE};
use crate::roles::{as_test, broker, directory, queue};

pub(crate) const LINEAGE: Task<(), Vec<String>> = Task::new("lineage");

/// Starts a daemon, and returns its id.
pub(crate) const LEAVE: Task<(), String> = Task::new("leave");

impl Fleet {
    /// As if the retention time of all results were over.
    fn forget_results(&self) {
        let mut connection = shared().raw();
        let pattern = format!("pmq:{{{}/*}}:results:*", self.queue.name());
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(pattern)
            .query(&mut connection)
            .unwrap();
        for key in keys {
            redis::cmd("DEL").arg(key).exec(&mut connection).unwrap();
        }
    }

    /// Starts a parent with a daemon and another child, and answers their pids.
    fn parent(&self, role: &str) -> (Running, u32, u32) {
        let parent = self.stand_in().spawn(as_test(role));
        let line = parent.wait_for_line("daemon and child");
        let mut pids = line
            .split_whitespace()
            .rev()
            .map(|pid| pid.parse().unwrap());
        let child = pids.next().unwrap();
        (parent, pids.next().unwrap(), child)
    }
}

/// What a handler's process knows of itself, and what happens when it starts a child.
pub(crate) async fn lineage() -> Result<Vec<String>, String> {
    let CurrentProcess { name, id, .. } = current_process();
    let parent = parent_process().ok_or("it has a parent")?;
    let broker = broker().await;
    let alive = parent.is_alive(&broker).await.map_err(|e| e.to_string())?;
    let mut child = Process::new(SQUARE, &2)
        .and_then(|child| Ok(child.queue(queue().ok_or(ProcessError::Closed)?)))
        .map_err(|e| e.to_string())?;
    let started = match child.start(&broker).await {
        Ok(()) => child.result(SQUARE).await.map(|result| result.to_string()),
        Err(error) => Err(error),
    };
    Ok(vec![
        name,
        id.map_or_else(String::new, |id| id.to_string()),
        parent.name().to_owned(),
        parent.pid().to_string(),
        alive.to_string(),
        started.unwrap_or_else(|error| error.to_string()),
    ])
}

/// Starts a daemon that would run for ever, and ends.
pub(crate) async fn leave() -> Result<String, String> {
    let broker = broker().await;
    let mut daemon = Process::of(pmq_broker::Task::handler("wait", "never"))
        .queue(queue().unwrap())
        .daemon(true);
    daemon.start(&broker).await.map_err(|e| e.to_string())?;
    Ok(daemon.id().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_ends_with_its_killed_parent_and_others_live_on() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 2 --allow-commands");
    let (mut parent, daemon, child) = fleet.parent("family::killed_parent");
    assert!(is_alive(daemon) && is_alive(child));
    parent.kill();
    eventually("the daemon is stopped", LONG, || {
        (!is_alive(daemon)).then_some(())
    });
    assert!(is_alive(child), "who is no daemon outlives its parent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_ends_with_its_parent_that_ends_in_order() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 2 --allow-commands");
    let (parent, daemon, child) = fleet.parent("family::orderly_parent");
    eventually("the daemon is stopped", SOON, || {
        (!is_alive(daemon)).then_some(())
    });
    assert!(is_alive(child), "the parent waits for it");
    fs::write(fleet.path("go"), "").unwrap();
    let _ = parent.wait().expect_code(0);
    assert!(!is_alive(child));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_daemons_are_told_to_end_before_any_is_waited_for() {
    let fleet = Fleet::new().await;
    // On a busy machine the second order may come later than a worker usually waits before it kills.
    let _worker = fleet.worker("-c 3 --allow-commands --kill-after 1m");
    let broker = fleet.queue.broker();
    let forgotten = fleet.started("exit 0").await;
    eventually_async("it has ended", SOON, async || {
        (fleet.queue.status().await.ok()?.running == 0).then_some(())
    })
    .await;
    fleet.forget_results();
    let mut daemons = Vec::new();
    // The first one waits for the second one's order, longer than its worker's grace if need be.
    for (number, end) in [
        (1, "until [ -e $DIR/told ]; do sleep 0.02; done"),
        (2, ": > $DIR/told"),
    ] {
        let script = format!(
            "trap '{end}; exit 0' TERM; : > $DIR/ready{number}; while :; do sleep 0.02; done"
        );
        let mut daemon = fleet.process(&script).daemon(true);
        daemon.start(broker).await.unwrap();
        let ready = fleet.path(&format!("ready{number}"));
        eventually("it is ready", SOON, || ready.exists().then_some(()));
        daemons.push(daemon);
    }
    assert!(
        forgotten.is_alive().await.is_err(),
        "nothing is known of it"
    );
    leave_children(broker).await.unwrap();
    for daemon in daemons {
        assert_eq!(daemon.exitcode().await.unwrap(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "is the parent process of other tests"]
async fn killed_parent() {
    if queue().is_some() {
        let _broker = start_two("exec sleep 600").await;
        std::future::pending::<()>().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "is the parent process of other tests"]
async fn orderly_parent() {
    if queue().is_some() {
        let broker = start_two("until [ -e $DIR/go ]; do sleep 0.02; done").await;
        at_exit(&broker).await.unwrap();
    }
}

async fn start_two(script: &str) -> pmq_broker::Broker {
    let broker = broker().await;
    let mut pids = Vec::new();
    for (daemon, script) in [(true, "exec sleep 600"), (false, script)] {
        let mut process = Process::of(sh(script, &directory()))
            .queue(queue().unwrap())
            .daemon(daemon);
        process.start(&broker).await.unwrap();
        pids.push(process.pid().unwrap().unwrap());
    }
    println!("daemon and child {} {}", pids[0], pids[1]);
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_knows_itself_and_its_parent() {
    let fleet = Fleet::new().await;
    let _worker = fleet.handlers(2);
    let broker = fleet.queue.broker();
    for daemon in [false, true] {
        let mut process = Process::new(LINEAGE, &())
            .unwrap()
            .queue(fleet.queue.name().clone())
            .daemon(daemon)
            .name("inner");
        process.start(broker).await.unwrap();
        let said = process.result(LINEAGE).await.unwrap();
        let child = if daemon {
            "daemonic processes are not allowed to have children"
        } else {
            "4"
        };
        let parent = std::process::id().to_string();
        let id = process.id().to_string();
        assert_eq!(said, ["inner", &id, "MainProcess", &parent, "true", child]);
    }
    assert_eq!(current_process().name, "MainProcess");
    assert_eq!(parent_process(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_waits_for_its_child_lends_its_slot() {
    let fleet = Fleet::new().await;
    let _worker = fleet.handlers(1);
    let mut process = Process::new(LINEAGE, &())
        .unwrap()
        .queue(fleet.queue.name().clone());
    process.start(fleet.queue.broker()).await.unwrap();
    let said = process.result(LINEAGE).await.unwrap();
    assert_eq!(said[5], "4", "its child ran in its slot");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_of_a_handler_ends_with_it() {
    let fleet = Fleet::new().await;
    let _worker = fleet.handlers(2);
    let mut process = Process::new(LEAVE, &())
        .unwrap()
        .queue(fleet.queue.name().clone());
    process.start(fleet.queue.broker()).await.unwrap();
    let ended = Instant::now();
    let id = process.result(LEAVE).await.unwrap().parse().unwrap();
    let daemon = Process::attach(&fleet.queue, id).await.unwrap();
    daemon.join().await.unwrap();
    assert_eq!(daemon.exitcode().await.unwrap(), Some(-15));
    assert!(
        ended.elapsed() < DEFAULT_LEASE,
        "it need not end with a lease"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_told_about_itself_and_its_parent() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let script =
        "echo $PMQ_TASK_ID $PMQ_PROCESS_NAME $PMQ_PARENT_NAME $PMQ_PARENT_PID $PMQ_PARENT_ID";
    let mut process = fleet.process(script).name("inner");
    process.start(fleet.queue.broker()).await.unwrap();
    process.join().await.unwrap();
    let completion = process.completion().await.unwrap().unwrap();
    let (id, pid) = (process.id(), std::process::id());
    let expected = format!("{id} inner MainProcess {pid}\n");
    assert_eq!(String::from_utf8_lossy(completion.output().0), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_living_children_and_the_slots_of_the_fleet_are_counted() {
    let server = RedisServer::start();
    let fleet = Fleet::at(server.url()).await;
    let broker = fleet.queue.broker();
    assert_eq!(cpu_count(broker).await.unwrap(), 1, "nobody is up");
    let _worker = fleet.worker("-c 3 --allow-commands");
    eventually_async("the worker is known", SOON, async || {
        (cpu_count(broker).await.ok()? == 3).then_some(())
    })
    .await;
    let (first, second) = (fleet.started(FOREVER).await, fleet.started(FOREVER).await);
    let living = active_children(broker).await.unwrap();
    let ids: Vec<_> = living.iter().map(Process::id).collect();
    assert_eq!(ids, [first.id(), second.id()]);
    living[0].kill().await.unwrap();
    let living = active_children(broker).await.unwrap();
    assert_eq!(living.len(), 1);
    assert_eq!(living[0].pid().unwrap(), second.pid().unwrap());
    let listed = fleet.queue.processes().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(Some(listed[0].started.pid), second.pid().unwrap());
}
