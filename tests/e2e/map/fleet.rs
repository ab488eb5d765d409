//! `pmq map` on a fleet.

use std::fs;
use std::time::Duration;

use pmq_tests::program::Running;
use pmq_tests::{Program, RedisServer, Scratch, eventually};
use serde_json::{Value, json};

use super::{lines, pid_in, pmq, sh, wait_until_dead};

/// A worker of a fleet that runs commands from the queue `default`, in a home of its own.
fn fleet_worker(server: &RedisServer, directory: &Scratch) -> Running {
    let argv = [
        "worker",
        "-c",
        "2",
        "--allow-commands",
        "--name",
        "elsewhere",
    ];
    let worker = pmq(directory).redis(server.url()).spawn(argv);
    let _ = worker.wait_for_line("serves default");
    worker
}

/// The queue `default`, as `pmq status` has it.
fn status(pmq: &Program) -> Value {
    let status = pmq.run(["status", "-q", "default", "--json"]);
    status.expect_code(0).json().remove(0)
}

#[test]
fn a_fleet_runs_the_jobs_where_and_with_what_it_is_told() {
    let (server, directory) = (RedisServer::start(), Scratch::new());
    let _worker = fleet_worker(&server, &directory);
    let pmq = pmq(&directory)
        .redis(server.url())
        .env("LEFT_BEHIND", "here");
    let script = r#"echo "$1 $(pwd) $SIZE$LEFT_BEHIND"; exit $1"#;
    let flags = format!(
        "-k --joblog log --cwd {} --env SIZE=7",
        directory.path().display()
    );
    let finished = pmq.run(sh(&flags, script, "0 1")).expect_code(1);
    let there = directory.path().display();
    assert_eq!(finished.text(), format!("0 {there} 7\n1 {there} 7\n"));
    assert!(lines(&directory.join("log"))[1].contains("\telsewhere\t"));

    let elsewhere = pmq
        .run(["map", "-k", "--", "pwd", ":::", "a"])
        .expect_code(0)
        .text();
    assert!(!elsewhere.starts_with(&there.to_string()));
    let status = status(&pmq);
    assert_eq!(
        (&status["dead"], &status["completions"]),
        (&json!(0), &json!({}))
    );
}

#[test]
fn without_a_worker_a_fleets_run_waits_or_gives_up_as_told() {
    let (server, directory) = (RedisServer::start(), Scratch::new());
    let pmq = pmq(&directory).redis(server.url());
    let refused = pmq
        .run(["map", "--no-wait", "--", "echo", ":::", "a"])
        .expect_code(69);
    assert!(
        refused
            .error_text()
            .contains("no live worker of queue default runs commands")
    );
    let running = pmq.spawn(["map", "--", "echo", ":::", "a"]);
    let _ = running.wait_for_line("waiting for one");
    let _worker = fleet_worker(&server, &directory);
    assert_eq!(running.wait().expect_code(0).text(), "a\n");
}

#[test]
fn a_killed_runs_jobs_on_a_fleet_are_dropped() {
    let (server, directory) = (RedisServer::start(), Scratch::new());
    let _worker = fleet_worker(&server, &directory);
    let script = "echo $$ >tmp.$1; mv tmp.$1 pid.$1; exec sleep 600";
    let pmq = pmq(&directory).redis(server.url());
    let flags = format!("--cwd {}", directory.path().display());
    let mut running = pmq.spawn(sh(&flags, script, "1 2 3 4"));
    let pids = [1, 2].map(|n| pid_in(&directory.join(format!("pid.{n}"))));
    running.kill();
    // Its lease of 15 s ends first.
    eventually(
        "the owner's tasks are gone",
        Duration::from_secs(45),
        || {
            let status = status(&pmq);
            let left = ["ready", "scheduled", "running"].map(|state| status[state].as_u64());
            (left == [Some(0); 3]).then_some(())
        },
    );
    pids.into_iter().for_each(wait_until_dead);
    assert!(!directory.join("pid.3").exists());
}

#[test]
fn a_run_survives_a_restart_of_the_broker() {
    let (mut server, directory) = (RedisServer::builder().aof(true).start(), Scratch::new());
    let _worker = fleet_worker(&server, &directory);
    let script = "until [ -e go ]; do sleep 0.05; done; echo $1; echo $1 >>ran";
    let flags = format!("-k -j 4 --cwd {}", directory.path().display());
    let pmq = pmq(&directory).redis(server.url());
    let running = pmq.spawn(sh(&flags, script, "1 2 3 4 5 6 7 8 9"));
    eventually("jobs run", Duration::from_secs(20), || {
        (status(&pmq)["running"] == 2).then_some(())
    });
    server.shutdown();
    fs::write(directory.join("go"), "").unwrap();
    eventually("the jobs end", Duration::from_secs(20), || {
        let ran = fs::read_to_string(directory.join("ran")).ok()?;
        (ran.lines().count() == 2).then_some(())
    });
    server.restart();
    let finished = running.wait().expect_code(0);
    assert_eq!(
        finished.lines(),
        ["1", "2", "3", "4", "5", "6", "7", "8", "9"]
    );
    assert_eq!(lines(&directory.join("ran")).len(), 9);
}
