//! Large results: no more of them come than there is memory for.

use pmq_broker::pool::Imap;
use pmq_tests::eventually_async;

use super::BULKY;
use crate::fleet::{Fleet, SOON};

const MIB: usize = 1 << 20;

/// Waits until nothing is under way any more, although nobody reads; how many calls there were.
async fn standstill(fleet: &Fleet) -> usize {
    eventually_async("nothing is under way", SOON, async || {
        let status = fleet.queue.status().await.ok()?;
        (status.ready + status.running == 0).then_some(())
    })
    .await;
    fleet.record().len()
}

async fn read<I: Iterator<Item = (u64, usize)>>(results: &mut Imap<I, String>, n: usize) {
    for _ in 0..n {
        results.next().await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_has_few_large_results_in_hand() {
    let fleet = Fleet::new().await;
    let _worker = fleet.pool_worker(2).await;
    let pool = fleet.pool(2).await;
    let items = || (0..150).map(|n| (n % 10, MIB));
    let mut ordered = pool.imap(BULKY, items()).unwrap();
    // By then it is known how large they are.
    read(&mut ordered, 20).await;
    let calls = standstill(&fleet).await;
    assert!(calls <= 20 + 32, "{calls} calls for 20 results of 1 MiB");
    let mut unordered = pool.imap_unordered(BULKY, items()).unwrap();
    read(&mut unordered, 20).await;
    let more = standstill(&fleet).await - calls;
    assert!(more <= 20 + 32, "{more} calls for 20 results of 1 MiB");
    read(&mut ordered, 130).await;
    read(&mut unordered, 130).await;
    assert!(ordered.next().await.is_none() && unordered.next().await.is_none());
    assert_eq!(fleet.record().len(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_results_may_be_the_largest() {
    let fleet = Fleet::new().await;
    let _worker = fleet.pool_worker(2).await;
    let pool = fleet.pool(2).await;
    let sizes = [15 * MIB, 1, 1, 1].into_iter().cycle();
    let mut results = pool
        .imap(BULKY, (0..10).cycle().zip(sizes).take(40))
        .unwrap();
    read(&mut results, 1).await;
    let calls = standstill(&fleet).await;
    assert!(calls <= 16, "{calls} calls, a fourth of them with 15 MiB");
    read(&mut results, 39).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_grow_outgrow_no_answer() {
    let fleet = Fleet::new().await;
    let _worker = fleet.pool_worker(1).await;
    let pool = fleet.pool(1).await;
    // Short ones first, so that many travel together when they become large.
    let sizes = (0..3000).map(|i| if i < 2900 { 1 } else { 2 * MIB });
    let items: Vec<_> = (0..10).cycle().zip(sizes).collect();
    let mut results = pool.imap_unordered(BULKY, items).unwrap();
    read(&mut results, 3000).await;
}
