//! `pmq lock` and `pmq sem`: a command that runs while something is held.

use std::fs;
use std::time::{Duration, Instant};

use pmq_tests::program::Running;
use pmq_tests::{Program, RedisServer, eventually};

use crate::fleet::{Fleet, LONG, SOON, is_alive, pmq_at};

const LEASE: Duration = Duration::from_secs(1);

/// A lock of its own, and a directory for what its commands write.
async fn scene() -> (Fleet, String) {
    let fleet = Fleet::new().await;
    let name = fleet.queue.name().as_str().to_owned();
    (fleet, name)
}

/// Starts `pmq lock` with a command that says that it runs, then waits for ever.
fn hold(pmq: &Program, name: &str, flags: &[&str]) -> Running {
    let script = "echo runs $$ $PMQ_FENCE; exec sleep 600";
    let running = spawn(pmq, &[&["lock", name], flags].concat(), script);
    let _ = running.wait_for_line("runs");
    running
}

fn spawn(pmq: &Program, arguments: &[&str], script: &str) -> Running {
    pmq.spawn([arguments, &["--", "sh", "-c", script]].concat())
}

/// The process id and the fence that the command of [`hold`] says.
fn said(running: &Running) -> (u32, u64) {
    let line = running.wait_for_line("runs");
    let mut words = line.split(' ').skip(1);
    let mut number = || words.next().unwrap().parse::<u64>().unwrap();
    (number() as u32, number())
}

fn wait_until_dead(pid: u32) {
    eventually("the command is dead", SOON, || {
        (!is_alive(pid)).then_some(())
    });
}

#[tokio::test]
async fn the_command_has_the_streams_the_names_and_the_last_word() {
    let (fleet, name) = scene().await;
    let pmq = fleet.pmq();
    let script = "cat; echo $PMQ_LOCK $PMQ_FENCE; pwd; echo oops >&2; exit 7";
    let run = || pmq.feed(["lock", &name, "--", "sh", "-c", script], b"input\n");
    let fences: Vec<u64> = [run(), run()]
        .into_iter()
        .map(|ended| {
            let ended = ended.expect_code(7);
            let lines = ended.lines();
            assert_eq!(
                (lines[0].as_str(), ended.error_text().as_str()),
                ("input", "oops\n")
            );
            assert_eq!(lines[2], pmq.home().to_str().unwrap());
            let (lock, fence) = lines[1].split_once(' ').unwrap();
            assert_eq!(lock, name);
            fence.parse().unwrap()
        })
        .collect();
    assert!(fences[0] < fences[1]);
    let _ = pmq
        .run(["lock", &name, "--", "sh", "-c", "kill -9 $$"])
        .expect_code(137);
    let ended = pmq
        .run(["lock", &name, "--", "pmq-no-such-program"])
        .expect_code(127);
    assert!(
        ended
            .error_text()
            .contains("no program \"pmq-no-such-program\"")
    );
    let _ = pmq.run(["lock", &name, "--", "/"]).expect_code(126);
    let _ = pmq.run(["lock", &name, "echo"]).expect_code(2);
}

#[tokio::test]
async fn who_waits_for_what_it_holds_itself_is_told() {
    let (fleet, name) = scene().await;
    let inner = [env!("CARGO_BIN_EXE_pmq-under-test"), "--redis", fleet.url()];
    let waits = ["lock", &name, "--timeout", "50ms", "--", "true"];
    let outer = [&["lock", &name, "--"], &inner[..], &waits].concat();
    let ended = fleet.pmq().run(outer).expect_code(124);
    let told = ended.error_text();
    assert!(
        told.contains(&format!("runs under lock {name} already")),
        "{told}"
    );
}

#[tokio::test]
async fn a_hangup_that_is_ignored_reaches_nobody() {
    let (fleet, name) = scene().await;
    let script = "kill -HUP $PPID; echo runs; until [ -e go ]; do sleep 0.02; done";
    let command = format!(
        "trap '' HUP; exec {} --redis {} lock {name} -- sh -c '{script}'",
        env!("CARGO_BIN_EXE_pmq-under-test"),
        fleet.url()
    );
    let sh = Program::new("sh").timeout(LONG);
    let running = sh.spawn(["-c", &command]);
    let _ = running.wait_for_line("runs");
    fs::write(sh.home().join("go"), "").unwrap();
    let _ = running.wait().expect_code(0);
}

#[tokio::test]
async fn the_next_waits_its_turn_or_gives_up() {
    let (fleet, name) = scene().await;
    let pmq = fleet.pmq();
    let first = hold(&pmq, &name, &[]);
    let ended = pmq
        .run(["lock", &name, "--nonblock", "--", "true"])
        .expect_code(75);
    assert!(ended.error_text().contains("is not free"));
    let _ = pmq
        .run(["lock", &name, "--timeout", "50ms", "--", "true"])
        .expect_code(124);
    let next = spawn(&pmq, &["lock", &name], "echo next");
    let given_up = spawn(&pmq, &["lock", &name], "echo given up");
    let lock = fleet.queue.broker().lock(fleet.queue.name());
    pmq_tests::eventually_async("both stand in line", SOON, async || {
        (lock.waiting().await.unwrap() == 2).then_some(())
    })
    .await;
    given_up.terminate();
    let _ = given_up.wait().expect_code(143);
    assert!(next.lines().is_empty());
    first.terminate();
    let _ = first.wait().expect_code(143);
    assert_eq!(next.wait().expect_code(0).text(), "next\n");
}

#[tokio::test]
async fn signals_reach_the_command_which_decides() {
    let (fleet, name) = scene().await;
    let script = "trap 'echo stopping; exit 3' TERM; echo runs; while :; do sleep 0.05; done";
    let running = spawn(&fleet.pmq(), &["lock", &name], script);
    let _ = running.wait_for_line("runs");
    running.terminate();
    let ended = running.wait().expect_code(3);
    assert_eq!(ended.lines(), ["runs", "stopping"]);
    assert!(
        !fleet
            .queue
            .broker()
            .lock(fleet.queue.name())
            .locked()
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn a_killed_holder_takes_its_command_with_it_and_the_next_one_is_told() {
    let (fleet, name) = scene().await;
    let pmq = fleet.pmq();
    let mut first = hold(&pmq, &name, &["--lease", "1s"]);
    let (pid, fence) = said(&first);
    let killed = Instant::now();
    first.kill();
    wait_until_dead(pid);
    let ended = pmq
        .run(["lock", &name, "--", "sh", "-c", "echo $PMQ_FENCE"])
        .expect_code(0);
    assert!(killed.elapsed() < LEASE + Duration::from_secs(3));
    assert!(ended.text().trim().parse::<u64>().unwrap() > fence);
    let told = ended.error_text();
    assert_eq!(
        told,
        format!("pmq: the last holder of lock {name} died while it held it\n")
    );
    let quiet = pmq.run(["lock", &name, "--", "true"]).expect_code(0);
    assert_eq!(quiet.error_text(), "");
}

#[tokio::test]
async fn a_lock_that_is_taken_away_ends_the_command() {
    let (fleet, name) = scene().await;
    let running = hold(&fleet.pmq(), &name, &["--lease", "1s"]);
    let (pid, _) = said(&running);
    fleet
        .queue
        .broker()
        .lock(fleet.queue.name())
        .force_release()
        .await
        .unwrap();
    let ended = running.wait().expect_code(76);
    assert!(
        ended
            .error_text()
            .contains("was lost while the command ran"),
        "{}",
        ended.error_text()
    );
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_deaf_command_is_dead_before_another_can_have_the_lock() {
    let mut server = RedisServer::start();
    let pmq = pmq_at(&server.url());
    let script = "trap '' TERM; echo runs $$ 0; while :; do sleep 600; done";
    let running = spawn(&pmq, &["lock", "gate", "--lease", "3s"], script);
    let (pid, _) = said(&running);
    server.stop();
    let stopped = Instant::now();
    wait_until_dead(pid);
    assert!(stopped.elapsed() < Duration::from_secs(3));
    let _ = running.wait().expect_code(76);
    server.resume();
}

#[tokio::test]
async fn a_holder_that_stood_still_ends_its_command_when_it_goes_on() {
    let (fleet, name) = scene().await;
    let pmq = fleet.pmq();
    let first = hold(&pmq, &name, &["--lease", "1s"]);
    first.stop();
    let next = hold(&pmq, &name, &["--lease", "1s"]);
    first.resume();
    let ended = first.wait().expect_code(76);
    assert!(ended.error_text().contains("was lost"));
    assert!(said(&next).1 > 0);
    next.interrupt();
    assert_eq!(next.wait().code(), 130);
}

/// Its file grows for as long as it goes on.
const BEATS: &str = "echo runs $$ 0; while :; do printf . >>beats; sleep 0.02; done";

/// The state of a process as ps(1) shows it: `T` where it stands.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

fn wait_until_stopped(pid: u32) {
    eventually("the command is stopped", SOON, || {
        (state(pid) == Some('T')).then_some(())
    });
}

fn beats(pmq: &Program) -> u64 {
    fs::metadata(pmq.home().join("beats")).map_or(0, |file| file.len())
}

fn wait_for_beats(pmq: &Program) {
    let before = beats(pmq);
    eventually("the command goes on", SOON, || {
        (beats(pmq) > before).then_some(())
    });
}

#[tokio::test]
async fn ctrl_z_stops_the_command_which_goes_on_with_its_holder() {
    let (fleet, name) = scene().await;
    let pmq = fleet.pmq();
    let running = spawn(&pmq, &["lock", &name], BEATS);
    let (pid, _) = said(&running);
    for _ in 0..2 {
        wait_for_beats(&pmq);
        running.suspend();
        wait_until_stopped(pid);
        running.resume();
        wait_for_beats(&pmq);
    }
    running.terminate();
    let _ = running.wait().expect_code(143);
}

#[tokio::test]
async fn a_command_whose_lock_was_lost_while_it_stood_is_ended_before_it_goes_on() {
    let (fleet, name) = scene().await;
    let pmq = fleet.pmq();
    let running = spawn(&pmq, &["lock", &name, "--lease", "1s"], BEATS);
    let (pid, _) = said(&running);
    wait_for_beats(&pmq);
    running.suspend();
    wait_until_stopped(pid);
    let before = beats(&pmq);
    let next = hold(&pmq, &name, &[]);
    running.resume();
    let ended = running.wait().expect_code(76);
    assert!(ended.error_text().contains("the command was stopped"));
    assert_eq!((is_alive(pid), beats(&pmq)), (false, before));
    next.terminate();
    let _ = next.wait().expect_code(143);
}

/// What `pmq lock --help` says of it: nobody is there who could stop the command.
#[tokio::test]
async fn a_command_runs_on_while_its_holder_alone_stands() {
    let (fleet, name) = scene().await;
    let pmq = fleet.pmq();
    let running = spawn(&pmq, &["lock", &name, "--lease", "1s"], BEATS);
    let (pid, _) = said(&running);
    running.stop();
    let next = hold(&pmq, &name, &[]);
    wait_for_beats(&pmq);
    running.resume();
    let _ = running.wait().expect_code(76);
    assert!(!is_alive(pid));
    next.terminate();
    let _ = next.wait().expect_code(143);
}

#[tokio::test]
async fn so_many_commands_run_at_once_under_a_semaphore() {
    let (fleet, name) = scene().await;
    let pmq = fleet.pmq();
    let sem = |script: &str, flags: &[&str]| {
        spawn(&pmq, &[&["sem", "-n", "2", &name], flags].concat(), script)
    };
    let script = "echo runs $PMQ_SEMAPHORE; exec sleep 600";
    let held = [(); 2].map(|()| sem(script, &[]));
    for one in &held {
        assert_eq!(one.wait_for_line("runs"), format!("runs {name}"));
    }
    let _ = sem("true", &["--nonblock"]).wait().expect_code(75);
    let ended = pmq
        .run(["sem", "-n", "3", &name, "--", "true"])
        .expect_code(1);
    assert!(
        ended.error_text().contains("has 2, not 3"),
        "{}",
        ended.error_text()
    );
    let third = sem("echo third", &[]);
    held[0].terminate();
    assert_eq!(third.wait().expect_code(0).text(), "third\n");
}

#[tokio::test]
async fn what_the_command_leaves_running_ends_with_the_lock() {
    let (fleet, name) = scene().await;
    let pids = fleet.path("pid");
    let script = format!("sleep 600 >/dev/null 2>&1 & echo $! > {}", pids.display());
    let _ = fleet
        .pmq()
        .run(["lock", &name, "--", "sh", "-c", &script])
        .expect_code(0);
    wait_until_dead(fs::read_to_string(pids).unwrap().trim().parse().unwrap());
}

#[test]
fn it_works_on_the_local_broker() {
    let pmq = Program::new(env!("CARGO_BIN_EXE_pmq-under-test")).timeout(LONG);
    let first = hold(&pmq, "gate", &[]);
    let _ = pmq
        .run(["lock", "gate", "--nonblock", "--", "true"])
        .expect_code(75);
    first.terminate();
    let _ = first.wait().expect_code(143);
    let _ = pmq
        .run(["lock", "gate", "--nonblock", "--", "true"])
        .expect_code(0);
}
