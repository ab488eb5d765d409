//! The examples of the teaching text, as programs, with what they print.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by it, also in what tests share"
)]

use std::collections::BTreeSet;
use std::env;
use std::thread::available_parallelism;

use pmq_tests::{Program, RedisServer};

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
fn two_processes_cube_and_square() {
    let mut lines = printed(&example("cube_and_square"));
    // They run at the same time.
    lines[..2].sort_unstable();
    assert_eq!(lines, ["cube: 1000", "square: 100", "done"]);
}

/// On a fleet, what the processes print comes from another worker, and the parent starts none.
#[test]
fn two_processes_cube_and_square_on_a_fleet() {
    let redis = RedisServer::start();
    let example = example("cube_and_square").env("PMQ_REDIS_URL", redis.url());
    let worker = example.clone().env("PMQ_SERVE", "default").spawn([""; 0]);
    let mut lines = printed(&example);
    lines[..2].sort_unstable();
    assert_eq!(lines, ["cube: 1000", "square: 100", "done"]);
    assert_eq!(worker.lines(), [""; 0]);
    worker.terminate();
    let _ = worker.wait().expect_code(0);
}

#[test]
fn a_queue_of_fruits_between_two_processes() {
    let fruits = ["apple", "banana", "cherry", "mango", "orange"];
    let put = fruits.iter().enumerate();
    let put = put.map(|(number, fruit)| format!("item {number} {fruit}"));
    let got = fruits.iter().map(|fruit| format!("got {fruit}"));
    let lines: Vec<String> = put.chain(got).collect();
    assert_eq!(printed(&example("fruit_queue")), lines);
}

#[test]
fn two_queues_and_three_workers() {
    let lines = printed(&example("two_queues"));
    let (taken, done): (Vec<_>, Vec<_>) = lines
        .iter()
        .partition(|line| !line.contains(" is done by "));
    for lines in [&taken, &done] {
        for number in 0..10 {
            let task = format!("task no {number}");
            let of_task = lines.iter().filter(|line| line.starts_with(&task));
            assert_eq!(of_task.count(), 1, "{task}: {lines:?}");
        }
    }
    let workers: BTreeSet<_> = done
        .iter()
        .filter_map(|line| line.rsplit(' ').next())
        .collect();
    let three = ["Process-1", "Process-2", "Process-3"].into();
    assert!(workers.len() > 1 && workers.is_subset(&three), "{done:?}");
}

#[test]
fn a_manager_shares_a_list_of_squares() {
    let lines = ["[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]", "10", "[4, 9, 16]"];
    assert_eq!(printed(&example("manager_list")), lines);
}

#[test]
fn producer_worker_and_consumer_in_one() {
    let lines = printed(&example("square"));
    let mut squares: Vec<u32> = lines.iter().map(|line| line.parse().unwrap()).collect();
    squares.sort_unstable(); // handlers that run at once may end in any order
    assert!(squares.into_iter().eq((0..10).map(|x| x * x)), "{lines:?}");
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
