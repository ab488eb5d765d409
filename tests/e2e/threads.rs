//! A system that has no thread left.

use std::fs;

use pmq_broker::{Error, Manager};
use pmq_tests::{Redis, shared};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::fleet::Fleet;
use crate::roles::{as_test, broker, queue};

/// Leaves too little address space for the stack of one more thread.
fn limit_threads(old: Rlimit) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find(|line| line.starts_with("VmSize:"));
    let kib = size.unwrap().split_whitespace().nth(1).unwrap();
    let limit = kib.parse::<u64>().unwrap() * 1024 + (1 << 20);
    let current = Some(limit);
    setrlimit(Resource::As, Rlimit { current, ..old }).unwrap();
}

#[tokio::test]
#[ignore = "is the process without threads of another test"]
async fn process_without_threads() {
    let Some(name) = queue() else { return };
    let broker = broker().await;
    let old = getrlimit(Resource::As);
    limit_threads(old);
    let lock = broker.lock(&name).acquire_nowait().await;
    let put = broker.queue::<u32>(&name).put(1).await;
    let list = Manager::new(&broker).list([1]).await.map(drop);
    setrlimit(Resource::As, old).unwrap();
    assert!(matches!(lock, Err(Error::NoThread(_))), "{lock:?}");
    assert!(put.is_err(), "{put:?}");
    assert!(matches!(list, Err(Error::NoThread(_))), "{list:?}");
    // It does not stay so.
    let lock = broker.lock(&name).acquire_nowait().await;
    assert!(lock.unwrap().is_some());
    println!("went on");
}

#[tokio::test]
async fn a_system_without_threads_is_an_error_and_no_panic() {
    let fleet = Fleet::at(shared().url()).await;
    let process = fleet
        .stand_in()
        .spawn(as_test("threads::process_without_threads"));
    let _ = process.wait_for_line("went on");
}
