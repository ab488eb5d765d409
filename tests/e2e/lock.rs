//! Locks between processes.

use std::time::Duration;

use pmq_broker::Lock;

use crate::fleet::{Fleet, name};

#[tokio::test]
async fn one_holds_it_and_the_others_wait_in_order() {
    let fleet = Fleet::new().await;
    let lock: Lock = fleet.queue.broker().lock(&name("gate"));
    let first = lock.acquire().await.unwrap();
    assert!(lock.locked().await.unwrap());
    assert!(lock.acquire_nowait().await.unwrap().is_none());
    let soon = Duration::from_millis(20);
    assert!(lock.acquire_timeout(soon).await.unwrap().is_none());

    let second = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await.unwrap() }
    });
    let fence = first.fence();
    first.release().await.unwrap();
    let second = second.await.unwrap();
    assert!(second.fence() > fence && !second.was_abandoned());
    second.release().await.unwrap();
    assert!(!lock.locked().await.unwrap());
    assert!(lock.force_release().await.is_err());
}
