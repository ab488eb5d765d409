//! The examples of the teaching text, as programs, with what they print.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by it, also in what tests share"
)]

use std::env;
use std::thread::available_parallelism;

use pmq_tests::Program;

/// An example, which `cargo test` builds beside this program.
fn example(name: &str) -> Program {
    let tests = env::current_exe().unwrap();
    let path = tests
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples")
        .join(name);
    assert!(
        path.exists(),
        "build it first: cargo build -p pmq --example {name}"
    );
    Program::new(path)
}

/// What an example prints without a Redis URL: on a local broker of its own, with workers of its own.
fn printed(example: &Program) -> Vec<String> {
    example.run([""; 0]).expect_code(0).lines()
}

#[test]
fn a_pool_of_five_squares() {
    let example = example("pool_square");
    assert_eq!(printed(&example), ["[1, 4, 9]"]);
}

#[test]
fn a_pool_of_two_works_through_a_log() {
    let example = example("pool_work_log");
    let mut lines = printed(&example.env("SECOND_MS", "300"));
    // Two processes begin at the same time.
    lines[..2].sort_unstable();
    let log = [
        "process V waits 5 seconds",
        "process X waits 2 seconds",
        "process X finished",
        "process Y waits 1 seconds",
        "process Y finished",
        "process Z waits 3 seconds",
        "process V finished",
        "process Z finished",
    ];
    assert_eq!(lines, log);
}

#[test]
fn the_cpus_are_counted() {
    let example = example("cpu_count");
    let cpus = available_parallelism().unwrap();
    assert_eq!(printed(&example), [format!("Number of cpu: {cpus}")]);
}
