//! Local pools: a program that starts itself again as its workers.

use std::collections::HashMap;
use std::time::Duration;

use pmq_tests::program::Running;
use pmq_tests::{Program, RedisServer, eventually};

use crate::fleet::{SOON, is_alive};

fn program(server: &RedisServer) -> Program {
    Program::new(env!("CARGO_BIN_EXE_local-pool-under-test")).env("PMQ_REDIS_URL", server.url())
}

fn lines(program: &Program, arguments: &[&str]) -> Vec<String> {
    program.run(arguments).expect_code(0).lines()
}

/// All keys of pools, also of their names on the list of queues.
fn left(server: &RedisServer) -> Vec<String> {
    let mut connection = server.connection();
    let mut left: Vec<String> = redis::cmd("KEYS")
        .arg("*pool*")
        .query(&mut connection)
        .unwrap();
    let mut queues = redis::cmd("SMEMBERS");
    queues.arg("pmq:fleet:{workers}:queues");
    let queues: Vec<String> = queues.query(&mut connection).unwrap();
    left.extend(queues);
    left
}

#[test]
fn it_maps_and_leaves_nothing() {
    let server = RedisServer::start();
    let sum: u64 = (0..20_000_u64).map(|x| x * x).sum();
    assert_eq!(lines(&program(&server), &["squares"]), [sum.to_string()]);
    assert_eq!(left(&server), [""; 0]);
}

#[test]
fn a_process_is_replaced_after_so_many_chunks() {
    let server = RedisServer::start();
    let lines = lines(&program(&server), &["replace"]);
    let mut chunks = HashMap::new();
    for line in &lines {
        *chunks.entry(line).or_insert(0) += 1;
    }
    assert_eq!((lines.len(), chunks.len()), (6, 3), "{lines:?}");
    assert!(chunks.values().all(|chunks| *chunks == 2), "{lines:?}");
}

#[test]
fn each_process_is_prepared_once() {
    let server = RedisServer::start();
    let lines = lines(&program(&server), &["setup"]);
    let setups = lines.iter().filter(|line| line.starts_with("setup green"));
    let mut pids: Vec<&str> = setups
        .filter_map(|line| line.split(' ').next_back())
        .collect();
    pids.sort_unstable();
    let before = pids.len();
    pids.dedup();
    assert!(
        pids.len() == before && (1..=2).contains(&before),
        "{lines:?}"
    );
    for line in lines.iter().filter(|line| line.starts_with("pid")) {
        assert!(
            pids.contains(&&line[4..]),
            "{line} was not prepared: {lines:?}"
        );
    }
}

#[test]
fn an_initializer_that_kills_its_process_ends_the_pool() {
    let server = RedisServer::start();
    let lines = lines(&program(&server), &["abort"]);
    let (error, setups) = lines.split_last().unwrap();
    assert!(
        error.starts_with("3 workers in a row died in the initializer"),
        "{error}"
    );
    assert!(
        setups.len() <= 20,
        "{} processes were started",
        setups.len()
    );
    assert_eq!(left(&server), [""; 0]);
}

#[test]
fn a_killed_worker_is_replaced_and_its_chunk_runs_at_once() {
    let server = RedisServer::start();
    let program = program(&server);
    let file = program.home().join("died");
    let lines = lines(&program, &["die", file.to_str().unwrap()]);
    let ms: u64 = lines[0].parse().unwrap();
    // Without the parent's help it would be the worker's lease.
    assert!(ms < 4000, "{ms} ms");
}

#[test]
fn a_pool_that_is_terminated_ends_also_what_does_not_listen() {
    let server = RedisServer::start();
    let lines = lines(&program(&server), &["terminate"]);
    let last = lines.last().unwrap();
    assert_eq!(last, "the pool was terminated before the result was there");
    assert_eq!(left(&server), [""; 0]);
}

#[test]
fn workers_that_do_not_start_and_tasks_that_nobody_knows_are_errors() {
    let server = RedisServer::start();
    let program = program(&server);
    let broken = lines(&program, &["broken"]);
    assert!(
        broken[0].contains("they end as soon as they start (exit status: 1)"),
        "{broken:?}"
    );
    let crashing = lines(&program, &["crashing"]);
    assert!(
        crashing[0].contains("they end as soon as they start (signal: 9"),
        "{crashing:?}"
    );
    let unknown = lines(&program, &["unknown"]);
    assert_eq!(
        unknown,
        ["this program has no handler for the task 'unknown'"]
    );
    assert_eq!(left(&server), [""; 0]);
}

#[test]
fn a_task_that_ends_each_of_its_workers_ends_no_pool() {
    let server = RedisServer::start();
    let lines = lines(&program(&server), &["exits"]);
    assert!(lines[0].contains("worker"), "{lines:?}");
    assert_eq!(lines[1], "8");
}

#[test]
fn a_program_that_a_worker_runs_is_no_worker() {
    let server = RedisServer::start();
    let sum: u64 = (0..20_000_u64).map(|x| x * x).sum();
    let lines = lines(&program(&server), &["again"]);
    assert_eq!(lines, [sum.to_string(), "81".to_owned()]);
    assert_eq!(left(&server), [""; 0]);
}

/// A program whose two workers hang, and their process ids.
fn hanging(program: &Program) -> (Running, Vec<u32>) {
    let parent = program.spawn(["hang"]);
    let pids = eventually("both workers run", SOON, || {
        let lines = parent.lines();
        let pids = lines
            .iter()
            .filter_map(|line| line.strip_prefix("worker ")?.parse().ok());
        Some(pids.collect::<Vec<u32>>()).filter(|pids| pids.len() == 2)
    });
    (parent, pids)
}

#[test]
fn workers_end_with_their_parent() {
    let server = RedisServer::start();
    let (mut parent, workers) = hanging(&program(&server));
    parent.kill();
    eventually("the workers end", SOON, || {
        workers.iter().all(|pid| !is_alive(*pid)).then_some(())
    });
}

#[test]
fn the_next_pool_removes_what_a_killed_one_left() {
    let server = RedisServer::start();
    let program = program(&server);
    let (mut parent, workers) = hanging(&program);
    for pid in workers {
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    }
    parent.kill();
    assert!(!left(&server).is_empty());
    // Once the lease of the killed one has ended.
    eventually("nothing is left", Duration::from_secs(60), || {
        let _ = program.run(["squares"]).expect_code(0);
        left(&server).is_empty().then_some(())
    });
}
