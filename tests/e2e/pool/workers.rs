//! The worker and the producer process of the tests of pools.

use std::env;
use std::fs::OpenOptions;
use std::future::{Ready, ready};
use std::io::Write;
use std::process;
use std::time::Duration;

use pmq_broker::Pool;
use pmq_tests::eventually;
use pmq_worker::Worker;
use rustix::process::{Signal, getpid, kill_process};

use super::{ADD, BULKY, DIE, HALF, HOLD, NOTE, SETUP, SQUARE, UNEVEN};
use crate::fleet::{SOON, pass};
use crate::roles::{SLOTS, broker, directory, queue};

/// Where the producer is told how many items it calls for.
pub(super) const ITEMS: &str = "PMQ_TEST_ITEMS";

fn note(text: &str) {
    let path = directory().join("record");
    let mut record = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    record.write_all(format!("{text}\n").as_bytes()).unwrap();
}

fn done<T>(value: T) -> Ready<Result<T, String>> {
    ready(Ok(value))
}

fn setup(text: &str) -> Ready<Result<(), &'static str>> {
    note(&format!("setup {} {text}", process::id()));
    if text == "die" {
        kill_process(getpid(), Signal::KILL).unwrap();
    }
    ready(if text == "fail" {
        Err("as it was told")
    } else {
        Ok(())
    })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "is the worker process of other tests"]
async fn worker() {
    let Some(queue) = queue() else { return };
    let mut worker = Worker::new(broker().await);
    worker.options.queues = vec![queue.clone()];
    worker.options.lease = Duration::from_secs(1);
    worker.options.slots = env::var(SLOTS).unwrap().parse().unwrap();
    worker
        .handle(SQUARE, |x| done(x * x))
        .handle(ADD, |(a, b)| done(a + b))
        .handle(HALF, |x| {
            assert!(x >= 0, "no half of {x}");
            ready(if x % 2 == 0 {
                Ok(x / 2)
            } else {
                Err(format!("{x} is odd"))
            })
        })
        .handle(NOTE, |n| {
            note(&n.to_string());
            done(n)
        })
        .handle(HOLD, |n| async move {
            note(&n.to_string());
            let release = || directory().join("release").exists().then_some(());
            let wait = move || eventually("the file is there", SOON * 2, release);
            tokio::task::spawn_blocking(wait)
                .await
                .map_err(|e| e.to_string())?;
            Ok::<_, String>(n)
        })
        .handle(DIE, |n| {
            if n >= 1000 {
                note(&n.to_string());
                kill_process(getpid(), Signal::KILL).unwrap();
            }
            done(n)
        })
        .handle(UNEVEN, |n| async move {
            note(&n.to_string());
            if n % 10 == 0 {
                let wait = || pass(Duration::from_millis(11));
                tokio::task::spawn_blocking(wait)
                    .await
                    .map_err(|e| e.to_string())?;
            }
            Ok::<_, String>(n)
        })
        .handle(BULKY, |(n, bytes)| {
            note(&n.to_string());
            done(n.to_string().repeat(bytes))
        })
        .handle(SETUP, |text: String| setup(&text));
    worker.run(std::future::pending()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "is the producer process of other tests"]
async fn producer() {
    let Some(queue) = queue() else { return };
    let items: u64 = env::var(ITEMS).unwrap().parse().unwrap();
    let broker = broker().await;
    // As many processes as it takes to have everything on the queue at once.
    let pool = Pool::builder(&broker)
        .queue(queue)
        .processes(items as usize);
    let pool = pool.open().await.unwrap();
    let held = pool.map_with(HOLD, 0..items, 1).await;
    panic!("nothing holds these tasks: {held:?}");
}
