//! Processes on a fleet: started, joined, told apart by their exit codes, and killed from elsewhere.

use std::fs;
use std::time::{Duration, Instant};

use pmq_broker::process::{
    CurrentProcess, LOST, Piece, active_children, at_exit, cpu_count, current_process,
    parent_process,
};
use pmq_broker::task_queue::DEFAULT_LEASE;
use pmq_broker::typed::Task;
use pmq_broker::{Outcome, Process, ProcessError};
use pmq_tests::program::Running;
use pmq_tests::{RedisServer, eventually, eventually_async};

use crate::fleet::{Fleet, LONG, SOON, is_alive, sh};
use crate::roles::{as_test, broker, directory, queue};

pub(crate) const SQUARE: Task<i64, i64> = Task::new("square");
pub(crate) const LINEAGE: Task<(), Vec<String>> = Task::new("lineage");

/// Starts a daemon, and returns its id.
pub(crate) const LEAVE: Task<(), String> = Task::new("leave");

/// What `terminate` and `kill` may take where the news of them is lost: a heartbeat of the usual lease, and a second.
const WITHOUT_NEWS: Duration = Duration::from_secs(4);
const FOREVER: &str = "echo $$ > $DIR/pid; exec sleep 600";

impl Fleet {
    /// A process that runs `script` in a shell on this queue, with the fleet's directory.
    fn process(&self, script: &str) -> Process {
        Process::of(self.sh(script)).queue(self.queue.name().clone())
    }

    async fn started(&self, script: &str) -> Process {
        let mut process = self.process(script);
        process.start(self.queue.broker()).await.unwrap();
        process
    }

    /// Runs `script` to its end.
    async fn exitcode(&self, script: &str) -> Option<i32> {
        let process = self.started(script).await;
        process.join().await.unwrap();
        process.exitcode().await.unwrap()
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
async fn it_starts_where_a_worker_is_and_ends_with_an_exit_code() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let mut process = fleet
        .process("echo $$ > $DIR/pid; until [ -e $DIR/go ]; do sleep 0.02; done; echo done; exit 7")
        .name("seven");
    assert_eq!(process.pid().unwrap(), None);
    assert!(!process.is_alive().await.unwrap());
    process.start(fleet.queue.broker()).await.unwrap();
    let pid = process.pid().unwrap().unwrap();
    assert!(is_alive(pid) && process.is_alive().await.unwrap());
    assert!(!process.host().unwrap().unwrap().is_empty());
    assert_eq!(process.exitcode().await.unwrap(), None);
    assert!(!process.join_timeout(Duration::ZERO).await.unwrap());
    let told = eventually("it writes its pid", SOON, || {
        fs::read_to_string(fleet.path("pid"))
            .ok()
            .filter(|text| text.ends_with('\n'))
    });
    assert_eq!(told.trim(), pid.to_string());
    fs::write(fleet.path("go"), "").unwrap();
    process.join().await.unwrap();
    assert!(!process.is_alive().await.unwrap());
    assert_eq!(process.exitcode().await.unwrap(), Some(7));
    let completion = process.completion().await.unwrap().unwrap();
    assert_eq!(
        (completion.outcome, completion.report.pid),
        (Outcome::Failed, Some(pid))
    );
    assert_eq!(completion.output().0, b"done\n");
    let status = fleet.queue.status().await.unwrap();
    assert_eq!(status.dead, 0, "a process is no dead letter");
    assert!(status.completions.is_empty(), "nobody else hears of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_are_those_of_python() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 2 --allow-commands");
    assert_eq!(fleet.exitcode("true").await, Some(0));
    assert_eq!(fleet.exitcode("exit 3").await, Some(3));
    assert_eq!(fleet.exitcode("kill -KILL $$").await, Some(-9));
    assert_eq!(fleet.exitcode("kill -USR1 $$").await, Some(-10));
    let process = fleet.started("exec sleep 600").await;
    process.terminate().await.unwrap();
    assert_eq!(process.exitcode().await.unwrap(), Some(-15));
    let process = fleet.started("exec sleep 600").await;
    process.interrupt().await.unwrap();
    assert_eq!(process.exitcode().await.unwrap(), Some(-2));
    process.kill().await.unwrap();
    assert_eq!(process.exitcode().await.unwrap(), Some(-2), "it was over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_a_process_with_a_result() {
    let fleet = Fleet::new().await;
    let _worker = fleet.handlers(2);
    let broker = fleet.queue.broker();
    let start = async |process: Result<Process, ProcessError>| {
        let mut process = process.unwrap().queue(fleet.queue.name().clone());
        process.start(broker).await.unwrap();
        process
    };
    let nine = start(Process::new(SQUARE, &3)).await;
    assert_eq!(nine.result(SQUARE).await.unwrap(), 9);
    assert_eq!(nine.exitcode().await.unwrap(), Some(0));
    let failed = start(Process::new(SQUARE, &i64::MAX)).await;
    let error = failed.result(SQUARE).await.unwrap_err();
    assert!(error.to_string().ends_with("exit code 1: too large"));
    let task = |name| pmq_broker::Task::handler(name, "");
    let panicked = start(Ok(Process::of(task("panic")))).await;
    panicked.join().await.unwrap();
    assert_eq!(panicked.exitcode().await.unwrap(), Some(1));
    for (kill, code) in [(false, -15), (true, -9)] {
        let waits = start(Ok(Process::of(pmq_broker::Task::handler("wait", "never")))).await;
        assert!(waits.pid().unwrap().is_some());
        if kill {
            waits.kill().await.unwrap();
        } else {
            waits.terminate().await.unwrap();
        }
        assert_eq!(waits.exitcode().await.unwrap(), Some(code));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_from_elsewhere_returns_when_it_is_dead_and_at_once() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let mut times = Vec::new();
    for _ in 0..20 {
        let process = fleet.started("exec sleep 600").await;
        let pid = process.pid().unwrap().unwrap();
        let elsewhere = Process::attach(&fleet.queue, process.id()).await.unwrap();
        assert_eq!(elsewhere.pid().unwrap(), Some(pid));
        let asked = Instant::now();
        elsewhere.kill().await.unwrap();
        times.push(asked.elapsed());
        assert!(!is_alive(pid));
        assert_eq!(process.exitcode().await.unwrap(), Some(-9));
    }
    times.sort_unstable();
    println!("kill: p50 {:?}, max {:?}", times[10], times[19]);
    assert!(times[10] < Duration::from_millis(100), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_whose_news_is_lost_takes_one_heartbeat() {
    let server = RedisServer::start();
    let fleet = Fleet::at(server.url()).await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    // A busy machine may take the second for itself, but hardly each time.
    let mut times = Vec::new();
    while times.last().is_none_or(|took| *took >= WITHOUT_NEWS) {
        assert!(times.len() < 3, "{times:?}");
        times.push(kill_without_news(&server, &fleet).await);
    }
    println!("kill without news: {times:?}");
}

/// Kills a process while nobody hears any news; how long that takes.
async fn kill_without_news(server: &RedisServer, fleet: &Fleet) -> Duration {
    let process = fleet.started("exec sleep 600").await;
    let mut connection = server.connection();
    let mut deafen = move || {
        redis::cmd("CLIENT")
            .arg(&["KILL", "TYPE", "pubsub"])
            .query::<u32>(&mut connection)
            .unwrap()
    };
    eventually("the worker's subscription is cut", SOON, || {
        (deafen() > 0).then_some(())
    });
    let asked = Instant::now();
    let kill = async { process.kill().await.unwrap() };
    let deaf = eventually_async("it is killed", SOON, async || {
        deafen();
        None::<()>
    });
    tokio::select! {
        () = kill => {}
        () = deaf => {}
    }
    let took = asked.elapsed();
    assert_eq!(process.exitcode().await.unwrap(), Some(-9));
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_who_attends_it_but_is_killed_all_the_same() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let script = "seq 3000000; touch $DIR/printed; exec sleep 600";
    let mut process = fleet.process(script).attended(true);
    process.start(fleet.queue.broker()).await.unwrap();
    let mut log = process.log().unwrap();
    let mut got = 0;
    while got < 10_000_000 {
        match log.next().await.unwrap() {
            Some(Piece::Output { bytes, .. }) => got += bytes.len(),
            other => panic!("{other:?}"),
        }
    }
    assert!(!fleet.path("printed").exists(), "it waits");
    process.kill().await.unwrap();
    assert_eq!(process.exitcode().await.unwrap(), Some(-9));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ignores_sigterm_is_killed_and_what_handles_it_has_its_say() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 2 --kill-after 100ms --allow-commands");
    let deaf = "trap '' TERM; record; while :; do sleep 0.02; done";
    let process = fleet.started(deaf).await;
    fleet.wait_for_record(1);
    process.terminate().await.unwrap();
    assert_eq!(process.exitcode().await.unwrap(), Some(-9));
    let polite = "trap 'exit 5' TERM; record; while :; do sleep 0.02; done";
    let process = fleet.started(polite).await;
    fleet.wait_for_record(2);
    process.terminate().await.unwrap();
    assert_eq!(process.exitcode().await.unwrap(), Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_worker_killed_it_is_lost_and_does_not_run_again() {
    let fleet = Fleet::new().await;
    let mut worker = fleet.worker("-c 1 --lease 1s --allow-commands");
    let process = fleet.started("record; exec sleep 600").await;
    let pid = process.pid().unwrap().unwrap();
    fleet.wait_for_record(1);
    worker.kill();
    let _other = fleet.worker("-c 1 --lease 1s --allow-commands");
    assert!(process.join_timeout(SOON).await.unwrap());
    assert_eq!(process.exitcode().await.unwrap(), Some(LOST));
    let completion = process.completion().await.unwrap().unwrap();
    assert_eq!(completion.outcome, Outcome::Dead);
    assert_eq!(completion.report.pid, Some(pid));
    let error = completion.report.error.unwrap();
    assert!(error.contains("lost"), "{error}");
    let status = fleet.queue.status().await.unwrap();
    assert_eq!((status.ready, status.running, status.dead), (0, 0, 0));
    assert_eq!(fleet.record().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_terminates_it() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("-c 1 --grace 0s --allow-commands");
    let process = fleet.started("exec sleep 600").await;
    worker.terminate();
    process.join().await.unwrap();
    assert_eq!(process.exitcode().await.unwrap(), Some(-15));
    let status = fleet.queue.status().await.unwrap();
    assert_eq!((status.ready, status.dead), (0, 0), "it is not run again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_ends_with_its_killed_parent_and_others_live_on() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 2 --allow-commands");
    let (mut parent, daemon, child) = fleet.parent("process::killed_parent");
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
    let (parent, daemon, child) = fleet.parent("process::orderly_parent");
    eventually("the daemon is stopped", SOON, || {
        (!is_alive(daemon)).then_some(())
    });
    assert!(is_alive(child), "the parent waits for it");
    fs::write(fleet.path("go"), "").unwrap();
    let _ = parent.wait().expect_code(0);
    assert!(!is_alive(child));
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

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_use_has_its_error() {
    let fleet = Fleet::new().await;
    let broker = fleet.queue.broker();
    let mut process = fleet.process(FOREVER);
    let unstarted = [
        process.join().await,
        process.terminate().await,
        process.kill().await,
        process.interrupt().await,
    ];
    assert!(
        unstarted
            .iter()
            .all(|answer| matches!(answer, Err(ProcessError::NotStarted { .. })))
    );
    assert_eq!(
        unstarted[0].as_ref().unwrap_err().to_string(),
        "can only join a started process"
    );
    let _worker = fleet.worker("-c 1 --allow-commands");
    process.start(broker).await.unwrap();
    let twice = process.start(broker).await.unwrap_err();
    assert_eq!(twice.to_string(), "cannot start a process twice");
    let running = process.close().await.unwrap_err();
    assert_eq!(
        running.to_string(),
        "cannot close a process while it is still running"
    );
    process.kill().await.unwrap();
    process.close().await.unwrap();
    process.close().await.unwrap();
    let closed = process.join().await.unwrap_err();
    assert_eq!(closed.to_string(), "process object is closed");
    assert!(matches!(process.pid(), Err(ProcessError::Closed)));
    assert!(matches!(
        process.start(broker).await,
        Err(ProcessError::Closed)
    ));
    let unknown = Process::attach(&fleet.queue, pmq_broker::TaskId::new()).await;
    assert!(matches!(unknown, Err(ProcessError::Unknown { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_slot_the_start_times_out_and_leaves_nothing() {
    let fleet = Fleet::new().await;
    let broker = fleet.queue.broker();
    let mut process = fleet
        .process("echo ran")
        .start_timeout(Duration::from_millis(300));
    let error = process.start(broker).await.unwrap_err();
    assert!(matches!(error, ProcessError::StartTimeout { .. }));
    assert!(error.hint().unwrap().contains("pmq worker"));
    assert_eq!(fleet.queue.status().await.unwrap().ready, 0);
    let _worker = fleet.worker("-c 1 --allow-commands");
    process.start(broker).await.unwrap();
    process.join().await.unwrap();
    assert_eq!(process.exitcode().await.unwrap(), Some(0));
}
