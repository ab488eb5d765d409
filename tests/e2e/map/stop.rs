//! How `pmq map` stops before its input ends.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use pmq_tests::{Program, Scratch, eventually};

use super::{SOON, lines, pid_in, pmq, sh, wait_until_dead};

#[test]
fn halt_now_stops_what_runs_and_soon_lets_it_end() {
    let directory = Scratch::new();
    let script = r"echo $$ >pid.$1.tmp; mv pid.$1.tmp pid.$1
        case $1 in
        a) until [ -e pid.b ]; do :; done; exit 7 ;;
        b) until [ -e go ]; do sleep 0.05; done; echo b ends ;;
        *) echo $1 ;;
        esac";
    let now = pmq(&directory).run(sh("-j 2 --halt now,fail=1", script, "a b c d"));
    assert_eq!(now.expect_code(7).text(), "");
    wait_until_dead(pid_in(&directory.join("pid.b")));
    assert!(!directory.join("pid.c").exists());

    let directory = Scratch::new();
    let soon = pmq(&directory).spawn(sh(
        "-j 2 --joblog log --halt soon,fail=1",
        script,
        "a b c d",
    ));
    eventually("the failure is logged", SOON, || {
        let log = fs::read_to_string(directory.join("log")).ok()?;
        log.contains("\t7\t0\t").then_some(())
    });
    fs::write(directory.join("go"), "").unwrap();
    assert_eq!(soon.wait().expect_code(7).text(), "b ends\n");
    assert!(!directory.join("pid.c").exists());
}

#[test]
fn an_interrupt_cancels_what_is_queued_and_running_and_says_so() {
    let directory = Scratch::new();
    let script = "if [ $1 = 1 ]; then exit; fi; echo $$ >tmp.$1; mv tmp.$1 pid.$1; exec sleep 600";
    let flags = "-j 2 --joblog log";
    let running = pmq(&directory).spawn(sh(flags, script, "1 2 3 4 5 6 7 8 9 10"));
    let pids = [2, 3].map(|n| pid_in(&directory.join(format!("pid.{n}"))));
    wait_for_log(&directory, 1);
    running.interrupt();
    let finished = running.wait().expect_code(130);
    let told = "cancelled: 1 done, 2 stopped, 7 not started; resume with --joblog log --resume";
    assert!(
        finished.error_text().contains(told),
        "{}",
        finished.error_text()
    );
    pids.into_iter().for_each(wait_until_dead);
    assert!(!directory.join("pid.4").exists());
}

fn wait_for_log(directory: &Scratch, jobs: usize) {
    eventually("jobs are in the joblog", SOON, || {
        (lines(&directory.join("log")).len() > jobs).then_some(())
    });
}

#[test]
fn a_second_interrupt_kills_what_does_not_end() {
    let directory = Scratch::new();
    let script = "trap '' TERM; echo $$ >tmp.$1; mv tmp.$1 pid.$1; while :; do sleep 1; done";
    let running = pmq(&directory).spawn(sh("-j 1", script, "1"));
    let pid = pid_in(&directory.join("pid.1"));
    running.interrupt();
    let _ = running.wait_for_line("once more");
    running.interrupt();
    let _ = running.wait().expect_code(130);
    wait_until_dead(pid);
}

#[test]
fn workers_and_jobs_end_with_a_killed_run() {
    let directory = Scratch::new();
    let script = "echo $PPID >tmp; mv tmp worker; echo $$ >tmp; mv tmp job; exec sleep 600";
    let mut running = pmq(&directory).spawn(sh("-j 1", script, "1"));
    let (job, worker) = (
        pid_in(&directory.join("job")),
        pid_in(&directory.join("worker")),
    );
    running.kill();
    wait_until_dead(worker);
    wait_until_dead(job);
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    let directory = Scratch::new();
    let script = format!(
        "{{ yes | {} map -j 2 -- echo; echo $? >code; }} 2>err | head -n 1",
        env!("CARGO_BIN_EXE_pmq-under-test")
    );
    let shell = Program::new("/bin/sh").directory(directory.path());
    assert_eq!(shell.run(["-c", &script]).expect_code(0).text(), "y\n");
    assert_eq!(lines(&directory.join("code")), ["141"]);
    assert_eq!(fs::read_to_string(directory.join("err")).unwrap(), "");
}

#[test]
fn queues_that_killed_runs_left_are_deleted_by_the_next_run() {
    let directory = Scratch::new();
    let pmq = pmq(&directory);
    // The number in a name begins with the time of its run.
    let name = |ms: u128| format!("map-{:016x}", ms << 20);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let [left, served, young] = [1_700_000_000_000, 1_700_000_000_001, now.as_millis()].map(name);
    for queue in [&left, &served, &young] {
        let set = ["queue", "set", queue, "--maxsize", "9"];
        let _ = pmq.run(set).expect_code(0);
    }
    let worker = pmq.spawn(["worker", "-q", &served]);
    eventually("the worker is up", SOON, || {
        let status = ["status", "-q", &served, "--json"];
        let status = pmq.run(status).expect_code(0).json();
        status[0]["workers"]
            .as_array()
            .filter(|all| !all.is_empty())
            .map(|_| ())
    });
    let run = ["map", "-v", "--", "true", ":::", "a"];
    let said = pmq.run(run).expect_code(0).error_text();
    assert!(said.contains(&format!("deletes queue {left}")), "{said}");
    assert!(!said.contains('\x1b'), "a log that is no terminal: {said}");
    let queues = pmq.run(["queue", "ls", "--json"]).expect_code(0).json();
    let names: Vec<&str> = queues
        .iter()
        .filter_map(|queue| queue["queue"].as_str())
        .collect();
    assert_eq!(names, [&served, &young]);
    worker.terminate();
    let _ = worker.wait().expect_code(0);
}
