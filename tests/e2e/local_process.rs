//! Processes of a program on this machine, which starts itself again as their workers.

use std::fs;
use std::time::{Duration, Instant};

use pmq_tests::{Program, eventually};

use crate::fleet::{SOON, is_alive};

/// The program, on a local broker of its own.
fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_local-pool-under-test"))
}

#[test]
fn a_killed_worker_ends_its_process_at_once_and_is_replaced() {
    let program = program();
    let file = program.home().join("died");
    let start = Instant::now();
    let finished = program.run(["killed child", file.to_str().unwrap()]);
    assert_eq!(finished.expect_code(0).lines(), ["Some(-9)", "81"]);
    assert!(fs::exists(file).unwrap());
    // Without the parent's help it would be the worker's lease, and 2 s.
    assert!(start.elapsed() < Duration::from_secs(5), "{start:?}");
}

/// The local broker is private to this user, so its workers run commands without a flag.
#[test]
fn a_process_may_be_a_command() {
    let finished = program().run(["command child"]);
    assert_eq!(
        finished.expect_code(0).lines(),
        ["from the command", "Some(7)"]
    );
}

#[test]
fn a_process_has_children_on_the_same_workers() {
    let finished = program().run(["nested child"]);
    assert_eq!(finished.expect_code(0).lines(), ["5"]);
}

#[test]
fn at_its_end_a_program_joins_its_processes_and_ends_its_daemons() {
    let finished = program().run(["ended child"]);
    let lines = finished.expect_code(0).lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.contains(&"joined".to_owned()), "{lines:?}");
    let worker = lines.iter().find_map(|line| line.strip_prefix("worker "));
    let pid = worker.unwrap().parse().unwrap();
    eventually("the daemon's worker ends", SOON, || {
        (!is_alive(pid)).then_some(())
    });
}
