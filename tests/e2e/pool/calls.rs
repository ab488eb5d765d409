//! What calls give, on two worker processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pmq_broker::PoolError;
use pmq_broker::pool::CallOptions;
use pmq_broker::typed::Task;

use super::{ADD, HALF, HOLD, SQUARE, UNEVEN};
use crate::fleet::Fleet;

/// A task that is there, but not with this result.
const SQUARE_AS_TEXT: Task<i64, String> = Task::new("square");

#[tokio::test(flavor = "multi_thread")]
async fn a_map_gives_results_in_the_order_of_its_items() {
    let fleet = Fleet::new().await;
    let _workers = (fleet.pool_worker(1).await, fleet.pool_worker(1).await);
    let pool = fleet.pool(2).await;
    assert_eq!(pool.map(SQUARE, [1, 2, 3]).await.unwrap(), [1, 4, 9]);
    let squares: Vec<i64> = (0..1000).map(|x| x * x).collect();
    for chunksize in [1, 7, 1000] {
        let results = pool.map_with(SQUARE, 0..1000, chunksize).await.unwrap();
        assert_eq!(results, squares, "chunks of {chunksize}");
    }
    assert!(pool.map(SQUARE, []).await.unwrap().is_empty());
    assert_eq!(pool.apply(SQUARE, 12).await.unwrap(), 144);
    assert_eq!(pool.starmap(ADD, [(1, 2), (3, 4)]).await.unwrap(), [3, 7]);
    pool.close();
    pool.join().await.unwrap();
    let status = fleet.queue.status().await.unwrap();
    assert_eq!((status.ready, status.running, status.dead), (0, 0, 0));
    assert!(status.completions.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imap_keeps_the_order_and_an_unordered_one_does_not_wait() {
    let fleet = Fleet::new().await;
    let _worker = fleet.pool_worker(3).await;
    let pool = fleet.pool(3).await;
    let mut results = pool.imap_with(SQUARE, 0..500, 3).unwrap();
    for x in 0..500 {
        assert_eq!(results.next().await.unwrap().unwrap(), x * x);
    }
    assert!(results.next().await.is_none());

    // The first two are held, so the third is there before them.
    let mut first_come = pool.imap_unordered(HOLD, [1, 2]).unwrap();
    let early = first_come.next_timeout(Duration::from_millis(100)).await;
    assert!(matches!(early, Some(Err(PoolError::Timeout))));
    assert_eq!(pool.apply(SQUARE, 3).await.unwrap(), 9);
    std::fs::write(fleet.path("release"), "").unwrap();
    let mut both = [first_come.next().await, first_come.next().await].map(|r| r.unwrap().unwrap());
    both.sort_unstable();
    assert_eq!(both, [1, 2]);
    assert!(first_come.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imap_draws_its_input_no_further_than_its_window() {
    let fleet = Fleet::new().await;
    let _worker = fleet.pool_worker(2).await;
    let pool = fleet.pool(2).await;
    let drawn = Arc::new(AtomicU64::new(0));
    let count = drawn.clone();
    let input = (0..10_000_000_i64).inspect(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let mut results = pool.imap_unordered(SQUARE, input).unwrap();
    for read in 1..=5000 {
        results.next().await.unwrap().unwrap();
        let ahead = drawn.load(Ordering::Relaxed) - read;
        assert!(ahead <= 514, "{ahead} items ahead after {read}");
    }
    // Nor do results pile up where nobody reads them.
    let status = fleet.queue.status().await.unwrap();
    let waiting: u64 = status.completions.values().sum();
    assert!(status.ready + status.running + waiting <= 514, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_cut_short_runs_nothing_twice() {
    let fleet = Fleet::new().await;
    let _workers = (fleet.pool_worker(1).await, fleet.pool_worker(1).await);
    let pool = fleet.pool(2).await;
    for chunksize in [1, 3] {
        let numbers = pool.map_with(UNEVEN, 0..1000, chunksize).await.unwrap();
        assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    }
    let mut ran: Vec<u64> = fleet.record().iter().map(|n| n.parse().unwrap()).collect();
    ran.sort_unstable();
    assert_eq!(ran, (0..1000).flat_map(|n| [n, n]).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_names_its_item_and_fails_nothing_else() {
    let fleet = Fleet::new().await;
    let _workers = (fleet.pool_worker(1).await, fleet.pool_worker(1).await);
    let pool = fleet.pool(2).await;
    let mut results = pool.imap_with(HALF, [0, 1, 2, -4, 6], 2).unwrap();
    let mut texts = Vec::new();
    while let Some(result) = results.next().await {
        texts.push(result.map_or_else(|error| error.to_string(), |half| half.to_string()));
    }
    let told = [
        "0",
        "item 1 failed: 1 is odd",
        "1",
        "item 3 failed: the handler panicked: no half of -4",
        "3",
    ];
    assert_eq!(texts, told);
    let error = pool.map_with(HALF, [2, 4, 7, 9], 1).await.unwrap_err();
    assert!(matches!(error, PoolError::Task { index: 2, .. }), "{error}");
    let error = pool.map(SQUARE_AS_TEXT, [1, 2]).await.unwrap_err();
    assert!(
        matches!(error, PoolError::Result { index: 0, .. }),
        "{error}"
    );
    let status = fleet.queue.status().await.unwrap();
    assert_eq!((status.dead, status.scheduled), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_fails_only_after_every_chunk_has_ended() {
    let fleet = Fleet::new().await;
    let _worker = fleet.pool_worker(2).await;
    let pool = fleet.pool(2).await;
    let failing = pool
        .map_async(HALF, (0..100).map(|x| x * 2 + i64::from(x == 0)))
        .unwrap();
    assert!(failing.get().await.is_err());
    // Had it given up at its first item, others would still wait.
    let status = fleet.queue.status().await.unwrap();
    assert_eq!((status.ready, status.running), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn asynchronous_calls_go_on_in_the_background() {
    let fleet = Fleet::new().await;
    let _worker = fleet.pool_worker(2).await;
    let pool = fleet.pool(2).await;
    let held = pool.apply_async(HOLD, 7).unwrap();
    assert!(!held.ready());
    assert!(matches!(held.successful(), Err(PoolError::NotReady)));
    let late = held.get_timeout(Duration::from_millis(50)).await;
    assert!(matches!(late, Err(PoolError::Timeout)));
    let seen = Arc::new(AtomicU64::new(0));
    let sum = seen.clone();
    let options = CallOptions::new()
        .chunksize(2)
        .callback(move |squares: &Vec<i64>| {
            sum.store(squares.iter().sum::<i64>() as u64, Ordering::SeqCst);
        });
    let squares = pool.map_async_with(SQUARE, [1, 2, 3], options).unwrap();
    squares.wait().await;
    assert_eq!(
        seen.load(Ordering::SeqCst),
        14,
        "called back before it was ready"
    );
    assert_eq!(squares.get().await.unwrap(), [1, 4, 9]);
    let sums = pool.starmap_async(ADD, [(1, 2)]).unwrap();
    assert_eq!(sums.get().await.unwrap(), [3]);
    std::fs::write(fleet.path("release"), "").unwrap();
    assert_eq!(held.get().await.unwrap(), 7);
    assert!(held.ready() && held.successful().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn asynchronous_calls_start_in_their_order() {
    let fleet = Fleet::new().await;
    let _worker = fleet.pool_worker(2).await;
    // One process on two slots: one chunk runs at a time.
    let pool = fleet.pool(1).await;
    let calls: Vec<_> = (0..50)
        .map(|n| pool.apply_async(super::NOTE, n).unwrap())
        .collect();
    for (n, call) in calls.iter().enumerate() {
        assert_eq!(call.get().await.unwrap(), n as u64);
    }
    let order: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(fleet.record(), order);
}
