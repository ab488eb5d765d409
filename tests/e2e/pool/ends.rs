//! How pools end, what they prepare, and what they refuse.

use std::collections::HashSet;
use std::time::Duration;

use pmq_broker::{Pool, PoolError};

use super::{HOLD, SETUP, SQUARE};
use crate::fleet::Fleet;

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pool_ends_what_it_has() {
    let fleet = Fleet::new().await;
    let _worker = fleet.pool_worker(1).await;
    let pool = fleet.pool(1).await;
    assert!(matches!(pool.join().await, Err(PoolError::StillRunning)));
    let held = pool.map_async(HOLD, 0..20).unwrap();
    pool.close();
    let refused = pool.map(SQUARE, [1]).await.unwrap_err();
    assert_eq!(refused.to_string(), "pool not running");
    assert!(matches!(
        pool.imap(SQUARE, [1]).err(),
        Some(PoolError::Closed)
    ));
    assert!(matches!(
        pool.apply_async(SQUARE, 1),
        Err(PoolError::Closed)
    ));
    std::fs::write(fleet.path("release"), "").unwrap();
    pool.join().await.unwrap();
    assert!(held.successful().unwrap());
    assert_eq!(held.get().await.unwrap().len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_pool_is_terminated() {
    let fleet = Fleet::new().await;
    let _worker = fleet.pool_worker(1).await;
    let pool = fleet.pool(1).await;
    let held = pool.map_async(HOLD, 0..20).unwrap();
    fleet.wait_for_record(1);
    drop(pool);
    assert!(matches!(held.get().await, Err(PoolError::Terminated)));
    assert!(!held.successful().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused() {
    let fleet = Fleet::new().await;
    let broker = fleet.queue.broker();
    let none = Pool::new(broker, 0).await.err().unwrap();
    assert_eq!(
        none.to_string(),
        "the number of processes must be at least 1"
    );
    let none = Pool::builder(broker).max_tasks_per_child(0).open().await;
    assert!(matches!(none.err(), Some(PoolError::NoTasksPerChild)));
    let pool = fleet.pool(1).await;
    assert!(matches!(
        pool.map_with(SQUARE, [1], 0).await,
        Err(PoolError::BadChunksize)
    ));
    assert!(matches!(
        pool.imap_with(SQUARE, [1], 0).err(),
        Some(PoolError::BadChunksize)
    ));
    let unordered = pool.imap_unordered_with(SQUARE, [1], 0);
    assert!(matches!(unordered.err(), Some(PoolError::BadChunksize)));
    pool.terminate();
    assert!(matches!(
        pool.map(SQUARE, [1]).await,
        Err(PoolError::Closed)
    ));
    pool.join().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_worker_process_is_prepared_once() {
    let fleet = Fleet::new().await;
    let _workers = (fleet.pool_worker(2).await, fleet.pool_worker(2).await);
    let builder = Pool::builder(fleet.queue.broker()).queue(fleet.queue.name().clone());
    let pool = builder.processes(4).initializer(SETUP, &"green".to_owned());
    let pool = pool.open().await.unwrap();
    // Each of the four slots holds one, so both processes have work.
    let held = pool.map_async(HOLD, 0..4).unwrap();
    let lines = fleet.wait_for_record(6);
    let setups: HashSet<&String> = lines
        .iter()
        .filter(|line| line.starts_with("setup"))
        .collect();
    assert_eq!(setups.len(), 2, "{lines:?}");
    assert!(setups.iter().all(|line| line.ends_with("green")));
    std::fs::write(fleet.path("release"), "").unwrap();
    held.get().await.unwrap();
    pool.map_with(SQUARE, 0..100, 1).await.unwrap();
    assert_eq!(fleet.record().len(), 6, "and not again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_a_fleet_is_prepared_again_after_so_many_chunks() {
    let fleet = Fleet::new().await;
    let _worker = fleet.pool_worker(1).await;
    let builder = Pool::builder(fleet.queue.broker()).queue(fleet.queue.name().clone());
    let pool = builder
        .initializer(SETUP, &String::new())
        .max_tasks_per_child(3);
    let pool = pool.open().await.unwrap();
    pool.map_with(SQUARE, 0..7, 1).await.unwrap();
    assert_eq!(fleet.record().len(), 3, "before chunks 1, 4 and 7");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_whose_initializer_fails_is_given_up() {
    let fleet = Fleet::new().await;
    let _worker = fleet.pool_worker(1).await;
    let builder = Pool::builder(fleet.queue.broker()).queue(fleet.queue.name().clone());
    let pool = builder
        .initializer(SETUP, &"fail".to_owned())
        .open()
        .await
        .unwrap();
    let error = pool.map(SQUARE, 0..100).await.unwrap_err();
    assert!(matches!(error, PoolError::Initializer { .. }), "{error}");
    let tries = fleet.record().len();
    assert!((3..=8).contains(&tries), "{tries} tries, no storm");
    assert!(matches!(
        pool.apply(SQUARE, 1).await,
        Err(PoolError::Initializer { .. })
    ));
    pool.join().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_whose_initializer_kills_its_workers_is_given_up() {
    let fleet = Fleet::new().await;
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(fleet.pool_worker(1).await);
    }
    let builder = Pool::builder(fleet.queue.broker()).queue(fleet.queue.name().clone());
    let builder = builder.initializer(SETUP, &"die".to_owned());
    let pool = builder.open().await.unwrap();
    let error = pool.map_with(SQUARE, 0..100, 1).await.unwrap_err();
    assert!(
        matches!(error, PoolError::InitializerLost { workers: 3 }),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("initializer"));
    let refused = pool.apply(SQUARE, 1).await.unwrap_err();
    assert_eq!(refused.to_string(), error.to_string());
    pool.join().await.unwrap();
    let tries = fleet.record().len();
    assert!((3..=4).contains(&tries), "{tries} workers were lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_cancels_is_an_error_of_its_items() {
    let fleet = Fleet::new().await;
    let _worker = fleet.pool_worker(1).await;
    let pool = fleet.pool(1).await;
    let mut results = pool.imap(HOLD, 0..3).unwrap();
    let early = results.next_timeout(Duration::from_millis(10)).await;
    assert!(matches!(early, Some(Err(PoolError::Timeout))));
    fleet.wait_for_record(1);
    assert_eq!(fleet.queue.purge_some().await.unwrap().0, 2);
    std::fs::write(fleet.path("release"), "").unwrap();
    assert_eq!(results.next().await.unwrap().unwrap(), 0);
    for index in [1, 2] {
        let cancelled = results.next().await.unwrap().unwrap_err();
        assert_eq!(cancelled.to_string(), format!("item {index} was cancelled"));
    }
    assert!(results.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_was_cut_off_says_so() {
    let fleet = Fleet::new().await;
    let _worker = fleet.pool_worker(1).await;
    let pool = fleet.pool(1).await;
    let held = pool.map_async(HOLD, 0..20).unwrap();
    fleet.wait_for_record(1);
    // As if its lease had ended: nothing of it is left.
    fleet.queue.delete().await.unwrap();
    assert!(matches!(held.get().await, Err(PoolError::LeaseLost)));
    assert!(matches!(
        pool.apply(SQUARE, 1).await,
        Err(PoolError::LeaseLost)
    ));
}
