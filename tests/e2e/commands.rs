//! What a worker makes of commands: how they end, what they print, what they are told, and that they end with it.

use std::fs;
use std::time::Duration;

use pmq_broker::{Completion, Outcome, Task};
use pmq_tests::eventually;
use pmq_tests::program::Running;

use crate::fleet::{Fleet, SOON, is_alive};

const WORKER: &str = "-c 4 --allow-commands --kill-after 300ms";

/// Runs one command on a worker of its own.
async fn run(task: impl FnOnce(&Fleet) -> Task) -> Completion {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker(WORKER);
    fleet.submit(&task(&fleet)).await;
    fleet.completion().await
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_code_a_signal_and_a_missing_command_are_told_apart() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker(WORKER);
    let cases = [
        (fleet.sh("echo out; echo err >&2"), Outcome::Ok, 0),
        (fleet.sh("exit 7"), Outcome::Failed, 7),
        (fleet.sh("kill -USR1 $$"), Outcome::Failed, -10),
        (Task::command(["no-such-command"]), Outcome::Failed, 127),
        (Task::command(["/etc/passwd"]), Outcome::Failed, 126),
    ];
    for (task, ..) in &cases {
        fleet.submit(task).await;
    }
    let completions = fleet.completions(cases.len()).await;
    for (task, outcome, exit) in &cases {
        let completion = &completions[&task.id];
        assert_eq!(
            (completion.outcome, completion.exit),
            (*outcome, Some(*exit)),
            "{completion:?}"
        );
    }
    assert_eq!(
        completions[&cases[0].0.id].output(),
        (&b"out\n"[..], &b"err\n"[..])
    );
    let error = completions[&cases[3].0.id].report.error.clone().unwrap();
    assert!(error.contains("no-such-command"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_too_long_is_stopped_also_if_it_ignores_sigterm() {
    let completion = run(|fleet| {
        let mut task = fleet.sh("trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done");
        task.details.timeout_ms = 200;
        task
    })
    .await;
    assert_eq!(
        (completion.outcome, completion.exit),
        (Outcome::Failed, Some(-9))
    );
    let error = completion.report.error.clone().unwrap();
    assert!(error.contains("timed out after 200 ms"), "{error}");
    let printed = text(completion.output().0);
    assert!(
        printed.starts_with("ready\nno\n"),
        "it had the time to say so: {printed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gibibyte_of_output_keeps_the_worker_small() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("-c 4 --allow-commands --capture 65536");
    fleet
        .submit(&fleet.sh("echo first; head -c 1073741824 /dev/zero; echo last"))
        .await;
    let completion = fleet.completion().await;
    assert_eq!(completion.outcome, Outcome::Ok);
    let (printed, _) = completion.output();
    assert!(printed.starts_with(b"first\n\0") && printed.ends_with(b"\0last\n"));
    assert!(printed.len() < 70_000, "{}", printed.len());
    let peak = peak_memory_kib(&worker);
    assert!(peak < 100 << 10, "the worker grew to {peak} KiB");
}

fn peak_memory_kib(process: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_and_output_are_bytes_of_any_kind() {
    let argument = b"\xff\xfe a\n'\"$HOME".to_vec();
    let argv = [b"printf".to_vec(), b"%s".to_vec(), argument.clone()];
    let completion = run(|_| Task::command(argv)).await;
    assert_eq!(completion.output().0, argument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_reads_its_body_from_standard_input() {
    let body = vec![b'x'; 1 << 20];
    let completion = run(|_| {
        let mut task = Task::command(["wc", "-c"]);
        task.body = body.into();
        task
    })
    .await;
    assert_eq!(text(completion.output().0).trim(), "1048576");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_knows_its_task_attempt_queue_and_worker() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker(WORKER);
    let script = r#"echo $PMQ_TASK_ID $PMQ_ATTEMPT $PMQ_QUEUE $PMQ_SLOT; test -n "$PMQ_WORKER""#;
    let id = fleet.submit(&fleet.sh(script)).await;
    let completion = fleet.completion().await;
    assert_eq!(completion.outcome, Outcome::Ok);
    let expected = format!("{id} 1 {} 1\n", fleet.queue.name());
    assert_eq!(text(completion.output().0), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_in_a_directory_of_its_own_or_in_the_one_given() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker(WORKER);
    let private = fleet.sh("pwd; ls -A; stat -c %a .; touch left-behind");
    let mut given = fleet.sh("pwd");
    given.details.cwd = fleet
        .path("")
        .to_str()
        .unwrap()
        .trim_end_matches('/')
        .to_owned();
    let mut missing = fleet.sh("pwd");
    missing.details.cwd = "/no/such/directory".into();
    fleet
        .queue
        .submit_many(&[private.clone(), given.clone(), missing.clone()])
        .await
        .unwrap();
    let completions = fleet.completions(3).await;
    let printed = text(completions[&private.id].output().0);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(
        (lines.len(), lines[1]),
        (2, "700"),
        "an empty directory that is closed to others: {printed}"
    );
    eventually("it is removed", SOON, || {
        (!fs::exists(lines[0]).unwrap()).then_some(())
    });
    assert_eq!(
        text(completions[&given.id].output().0).trim_end(),
        given.details.cwd
    );
    let failed = &completions[&missing.id];
    assert_eq!(failed.outcome, Outcome::Failed);
    let error = failed.report.error.clone().unwrap();
    assert!(error.contains("/no/such/directory"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_takes_its_commands_and_grandchildren_with_it() {
    let fleet = Fleet::new().await;
    let mut worker = fleet.worker(WORKER);
    let script = "echo $$ > $DIR/leader; sh -c 'echo $$ > $DIR/child; record() { :; }; exec sleep 600' & \
                  setsid sh -c 'echo $$ > $DIR/session; exec sleep 600' & wait";
    fleet.submit(&fleet.sh(script)).await;
    let pids = ["leader", "child", "session"].map(|name| {
        eventually("the process is there", SOON, || {
            fs::read_to_string(fleet.path(name))
                .ok()?
                .trim()
                .parse::<u32>()
                .ok()
        })
    });
    assert!(pids.into_iter().all(is_alive));
    worker.kill();
    for pid in pids {
        eventually("it is gone", SOON, || (!is_alive(pid)).then_some(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_on_a_full_disk_fails_and_the_worker_goes_on() {
    let fleet = Fleet::new().await;
    let Some(_worker) = on_a_small_disk(&fleet, "size=64k") else {
        return;
    };
    let full = fleet.sh("head -c 1048576 /dev/zero > big");
    let next = fleet.sh("echo small > file && cat file");
    fleet
        .queue
        .submit_many(&[full.clone(), next.clone()])
        .await
        .unwrap();
    let completions = fleet.completions(2).await;
    assert_eq!(
        (completions[&full.id].outcome, completions[&next.id].outcome),
        (Outcome::Failed, Outcome::Ok)
    );
    let printed = text(completions[&full.id].output().1);
    assert!(printed.contains("No space left on device"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_room_for_a_working_directory_hands_its_commands_back() {
    let fleet = Fleet::new().await;
    // Room for the root of the file system and the list that the guard reads, and for no directory.
    let Some(full) = on_a_small_disk(&fleet, "nr_inodes=2") else {
        return;
    };
    let id = fleet.submit(&fleet.sh("echo done")).await;
    let _ = full.wait_for_line("can't run commands now");
    let _healthy = fleet.worker("-c 1 --allow-commands --name healthy");
    let completion = fleet.completion().await;
    assert_eq!(
        (completion.id, completion.outcome, completion.attempt),
        (id, Outcome::Ok, 1)
    );
    assert_eq!(completion.worker, "healthy");
}

/// A worker whose temporary directory is a small file system, where this user may mount one.
fn on_a_small_disk(fleet: &Fleet, options: &str) -> Option<Running> {
    let allowed = std::process::Command::new("unshare")
        .args(["-m", "true"])
        .status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this user may not mount a file system");
        return None;
    }
    let disk = fleet.path("disk");
    fs::create_dir(&disk).unwrap();
    let disk = disk.to_str().unwrap();
    let script = r#"mount -t tmpfs -o "$0" tmpfs "$TMPDIR" && exec "$@""#;
    let unshare = pmq_tests::Program::new("/usr/bin/unshare")
        .env("TMPDIR", disk)
        .timeout(Duration::from_secs(60));
    let worker = unshare.spawn([
        "-m",
        "sh",
        "-c",
        script,
        options,
        env!("CARGO_BIN_EXE_pmq-under-test"),
        "--redis",
        fleet.url(),
        "worker",
        "-q",
        fleet.queue.name().as_str(),
        "--completions",
        "done",
        "--allow-commands",
        "-c",
        "1",
    ]);
    let _ = worker.wait_for_line("serves");
    Some(worker)
}
