//! What is left when workers or the producer are killed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pmq_broker::PoolError;
use pmq_tests::program::Running;
use pmq_tests::{Redis, eventually_async};

use super::workers::ITEMS;
use super::{AFTER_THE_LEASE, DIE, HOLD, SQUARE};
use crate::fleet::{Fleet, SOON};
use crate::roles::as_test;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_costs_a_retry_of_what_it_held() {
    let fleet = Fleet::new().await;
    let (mut first, _second) = (fleet.pool_worker(2).await, fleet.pool_worker(2).await);
    let pool = fleet.pool(4).await;
    let held = pool.map_async(HOLD, 0..40).unwrap();
    fleet.wait_for_record(4);
    first.kill();
    std::fs::write(fleet.path("release"), "").unwrap();
    assert_eq!(held.get().await.unwrap(), (0..40).collect::<Vec<_>>());
    let mut runs = HashMap::new();
    for line in fleet.record() {
        *runs.entry(line).or_insert(0) += 1;
    }
    assert_eq!(runs.len(), 40);
    assert!(runs.values().all(|runs| *runs <= 2), "{runs:?}");
    // Two chunks of three items each were under way there, at their first item.
    assert_eq!(
        runs.values().filter(|runs| **runs == 2).count(),
        2,
        "{runs:?}"
    );
    assert_eq!(pool.apply(SQUARE, 3).await.unwrap(), 9, "the pool lives on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_kills_every_worker_is_lost_and_the_pool_lives_on() {
    let fleet = Fleet::new().await;
    let mut workers: Vec<Running> = Vec::new();
    for _ in 0..4 {
        workers.push(fleet.pool_worker(1).await);
    }
    let pool = fleet.pool(1).await;
    let error = pool.map_with(DIE, [1000], 1).await.unwrap_err();
    assert!(
        matches!(error, PoolError::WorkerLost { index: 0, .. }),
        "{error}"
    );
    assert_eq!(fleet.record(), ["1000", "1000", "1000"]);
    assert_eq!(pool.apply(SQUARE, 3).await.unwrap(), 9);
    eventually_async("the dead letter is removed", SOON, async || {
        (fleet.queue.status().await.ok()?.dead == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_kills_its_worker_takes_none_of_its_batch_along() {
    let fleet = Fleet::new().await;
    let mut workers: Vec<Running> = Vec::new();
    for _ in 0..5 {
        workers.push(fleet.pool_worker(1).await);
    }
    // Many short ones first, so that chunks travel together by then.
    let pool = fleet.pool(5).await;
    let items = (0..1000).cycle().take(5000).chain([1000]).chain(0..100);
    let mut results = pool.imap_with(DIE, items, 1).unwrap();
    let mut lost = Vec::new();
    while let Some(result) = results.next().await {
        lost.extend(result.err());
    }
    assert!(
        matches!(lost[..], [PoolError::WorkerLost { index: 5000, .. }]),
        "{lost:?}"
    );
    let deaths = fleet.record().len();
    assert!(
        (3..=4).contains(&deaths),
        "{deaths}: once in company, and then alone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_producer_leaves_no_task_and_no_key() {
    const ITEMS_QUEUED: u64 = 10_000;
    let fleet = Fleet::new().await;
    let _worker = fleet.pool_worker(2).await;
    let mut producer = fleet.producer(ITEMS_QUEUED);
    fleet.wait_for_record(2);
    eventually_async("everything is queued", SOON, async || {
        (fleet.queue.status().await.ok()?.ready == ITEMS_QUEUED - 2).then_some(())
    })
    .await;
    producer.kill();
    eventually_async("all tasks are gone", AFTER_THE_LEASE, async || {
        let status = fleet.queue.status().await.ok()?;
        let none = status.ready + status.running + status.dead + status.scheduled == 0;
        (none && fleet.queue.is_deserted().await.ok()?).then_some(())
    })
    .await;
    check_that_few_ran(&fleet).await;
    eventually_async("its keys are gone", SOON, async || {
        let left = keys(&fleet);
        left.iter().all(|key| !key.contains("pool.")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_queued_tasks_are_terminated_quickly() {
    let fleet = Fleet::new().await;
    let _worker = fleet.pool_worker(2).await;
    let pool = fleet.pool(10_000).await;
    let held = pool.map_async(HOLD, 0..10_000).unwrap();
    fleet.wait_for_record(2);
    eventually_async("everything is queued", SOON, async || {
        (fleet.queue.status().await.ok()?.ready == 9_998).then_some(())
    })
    .await;
    let start = Instant::now();
    pool.terminate();
    pool.join().await.unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert!(matches!(held.get().await, Err(PoolError::Terminated)));
    let status = fleet.queue.status().await.unwrap();
    assert_eq!((status.ready, status.running, status.dead), (0, 0, 0));
    assert!(keys(&fleet).iter().all(|key| !key.contains("pool.")));
    check_that_few_ran(&fleet).await;
}

/// Only those that fill the slots ran; and those that a freed slot took from a shard that had not heard of the end yet.
async fn check_that_few_ran(fleet: &Fleet) {
    let most = 2 * fleet.queue.open().await.unwrap().len();
    let ran = fleet.record().len();
    assert!(ran <= most, "{ran} ran, of which 2 should have");
}

impl Fleet {
    fn producer(&self, items: u64) -> Running {
        let producer = self.stand_in().env(ITEMS, items.to_string());
        producer.spawn(as_test("pool::workers::producer"))
    }
}

/// All keys of the fleet's queue.
fn keys(fleet: &Fleet) -> Vec<String> {
    let mut connection = pmq_tests::shared().raw();
    let pattern = format!("pmq:{{{}/*}}:*", fleet.queue.name());
    redis::cmd("KEYS")
        .arg(pattern)
        .query(&mut connection)
        .unwrap()
}
