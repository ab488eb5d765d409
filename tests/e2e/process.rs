//! Processes on a fleet: started, joined, told apart by their exit codes, and killed from elsewhere.

use std::fs;
use std::time::{Duration, Instant};

use pmq_broker::process::{LOST, Piece};
use pmq_broker::typed::Task;
use pmq_broker::{Outcome, Process, ProcessError};
use pmq_tests::{RedisServer, eventually, eventually_async};

use crate::fleet::{Fleet, SOON, is_alive};

pub(crate) const SQUARE: Task<i64, i64> = Task::new("square");

/// What `terminate` and `kill` may take where the news of them is lost: a heartbeat of the usual lease, and a second.
const WITHOUT_NEWS: Duration = Duration::from_secs(4);
pub(crate) const FOREVER: &str = "echo $$ > $DIR/pid; exec sleep 600";

impl Fleet {
    /// A process that runs `script` in a shell on this queue, with the fleet's directory.
    pub(crate) fn process(&self, script: &str) -> Process {
        Process::of(self.sh(script)).queue(self.queue.name().clone())
    }

    pub(crate) async fn started(&self, script: &str) -> Process {
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
async fn with_its_only_worker_killed_it_is_not_alive_although_nobody_waits() {
    let fleet = Fleet::new().await;
    let mut worker = fleet.worker("-c 1 --lease 1s --allow-commands");
    let process = fleet.started("exec sleep 600").await;
    let queue = fleet.queue.name().as_str();
    let states = || {
        let rows = fleet.pmq().run(["ps", "-q", queue, "--json"]).json();
        rows.iter()
            .map(|row| row["state"].clone())
            .collect::<Vec<_>>()
    };
    assert!(process.is_alive().await.unwrap());
    assert_eq!(states(), ["running"]);
    worker.kill();
    eventually_async("its worker's lease has ended", SOON, async || {
        (!process.is_alive().await.ok()?).then_some(())
    })
    .await;
    assert_eq!(states(), ["lost"]);
    let table = fleet.pmq().run(["ps", "-q", queue]).expect_code(0).text();
    assert!(table.contains("lost"), "{table}");
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
