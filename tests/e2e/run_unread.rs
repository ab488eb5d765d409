//! `pmq run` and `pmq logs -f` whose output nobody takes: signals and time limits count all the same.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use pmq_broker::task_queue::{Shard, State};
use pmq_tests::program::Running;
use pmq_tests::{Program, Redis, eventually, shared};

use crate::fleet::{Fleet, LONG, SOON, is_alive, pass};

const PMQ: &str = env!("CARGO_BIN_EXE_pmq-under-test");
/// Prints more than any pipe and log hold.
const FLOOD: &str = "echo $$ > $DIR/pid; exec yes";

impl Fleet {
    /// The words of `pmq run` on this fleet.
    fn run_words(&self, flags: &str, script: &str) -> Vec<String> {
        let directory = format!("DIR={}", self.path("").display());
        let queue = self.queue.name().as_str();
        let words = [
            "--redis",
            self.url(),
            "run",
            "-q",
            queue,
            "--env",
            &directory,
        ];
        let words = words.into_iter().chain(flags.split_whitespace());
        let words = words.chain(["--", "sh", "-c", script]);
        words.map(str::to_owned).collect()
    }

    /// The pid that the script has written.
    fn written_pid(&self) -> u32 {
        eventually("it writes its pid", SOON, || {
            let text = fs::read_to_string(self.path("pid")).ok()?;
            text.strip_suffix('\n')?.parse().ok()
        })
    }

    /// Waits until the logs hold so much that a reader is far behind.
    async fn wait_for_flood(&self) {
        let shards = self.queue.shards().await.unwrap();
        let mut redis = shared().raw();
        let mut is_flooded = |shard: &Shard| {
            let mut read = redis::cmd("HGET");
            read.arg(&[&shard.keys().fixed()[17], "all"]);
            let bytes = read.query::<Option<u64>>(&mut redis).unwrap();
            bytes.is_some_and(|bytes| bytes > 2_000_000)
        };
        eventually("a log is half full", SOON, || {
            shards.iter().any(&mut is_flooded).then_some(())
        });
    }
}

/// Starts `pmq` with standard output in a pipe that is open, and that nobody reads.
fn spawn_unread(words: Vec<String>) -> Running {
    let script = "mkfifo out; exec \"$@\" 3<>out >out".to_owned();
    let words = ["-c".to_owned(), script, "sh".to_owned(), PMQ.to_owned()]
        .into_iter()
        .chain(words);
    Program::new("sh").timeout(LONG).spawn(words)
}

/// Runs `pmq` with standard output in a pipe whose reader has gone.
fn run_closed(words: Vec<String>) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(PMQ);
    let ended = command.args(words).stdin(Stdio::null()).stdout(writer);
    let ended = ended.output().unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    (ended.status.code(), told)
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_end_a_run_whose_output_nobody_reads() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    for signal in [Running::interrupt, Running::terminate] {
        let run = spawn_unread(fleet.run_words("", FLOOD));
        let pid = fleet.written_pid();
        fleet.wait_for_flood().await;
        signal(&run);
        let _ = run.wait().expect_code(143);
        assert!(!is_alive(pid));
        fs::remove_file(fleet.path("pid")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_kills_it_also_then() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --kill-after 10m --allow-commands");
    let deaf = "trap 'echo > $DIR/told' TERM; echo $$ > $DIR/pid; while :; do seq 10000; done";
    let run = spawn_unread(fleet.run_words("", deaf));
    let pid = fleet.written_pid();
    fleet.wait_for_flood().await;
    run.interrupt();
    eventually("it is terminated, in vain", SOON, || {
        fleet.path("told").exists().then_some(())
    });
    run.interrupt();
    let _ = run.wait().expect_code(137);
    assert!(!is_alive(pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_limit_ends_a_run_whose_output_nobody_reads() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let run = spawn_unread(fleet.run_words("--timeout 1s", FLOOD));
    let pid = fleet.written_pid();
    let _ = run.wait().expect_code(124);
    assert!(!is_alive(pid));
}

/// It has done its work, but not all that it printed was shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ended_well_unread_and_is_interrupted_does_not_say_ok() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let run =
        spawn_unread(fleet.run_words("--timeout 3s", "echo $PMQ_TASK_ID > $DIR/id; seq 100000"));
    let id = eventually("it says its id", SOON, || {
        let text = fs::read_to_string(fleet.path("id")).ok()?;
        text.strip_suffix('\n')?.parse().ok()
    });
    pmq_tests::eventually_async("it has ended", SOON, async || {
        let state = fleet.queue.find(id).await.unwrap().state;
        (state == State::Ended).then_some(())
    })
    .await;
    pass(Duration::from_secs(3)); // it was in time
    run.interrupt();
    let _ = run.wait().expect_code(130);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_output_terminates_the_process() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let script = "echo $$ > $DIR/pid; echo one; exec sleep 600";
    let (code, told) = run_closed(fleet.run_words("", script));
    assert_eq!((code, told.as_str()), (Some(141), ""));
    assert!(!is_alive(fleet.written_pid()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_followed_ends_with_its_output_or_a_signal() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let detached = Program::new(PMQ).run(fleet.run_words("--detach", FLOOD));
    let id = detached.expect_code(0).text().trim().to_owned();
    fleet.wait_for_flood().await;
    let follow = owned(&["--redis", fleet.url(), "logs", "-f", &id]);
    let (code, _) = run_closed(follow.clone()); // it may say that some is lost already
    assert_eq!(code, Some(141));
    for (signal, expected) in [
        (Running::interrupt as fn(&Running), 130),
        (Running::terminate, 143),
    ] {
        let logs = spawn_unread(follow.clone());
        let name = format!("/proc/{}/comm", logs.pid());
        eventually("it is pmq", SOON, || {
            let name = fs::read_to_string(&name).ok()?;
            name.starts_with("pmq").then_some(())
        });
        signal(&logs);
        let _ = logs.wait().expect_code(expected);
    }
    let _ = fleet.pmq().run(["kill", &id]).expect_code(0);
}
