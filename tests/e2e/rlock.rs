//! Reentrant locks: levels, owners, and what another process sees of them.

use std::time::Duration;

use pmq_broker::{Broker, Error, RLock};
use pmq_tests::eventually_async;

use crate::fleet::{Fleet, SOON};

async fn rlock() -> (Broker, RLock) {
    let fleet = Fleet::new().await;
    let broker = fleet.queue.broker().clone();
    let lock = broker.rlock(fleet.queue.name());
    (broker, lock)
}

#[tokio::test]
async fn its_owner_takes_it_again_and_the_last_level_frees_it() {
    let (broker, lock) = rlock().await;
    let other = broker.lock(lock.name());
    let first = lock.acquire().await.unwrap();
    let second = lock.acquire_nowait().await.unwrap().unwrap();
    let third = lock.acquire_timeout(Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(lock.levels(), 3);
    assert!(first.fence() > 0 && first.fence() == third.fence());
    drop(first);
    third.release().await.unwrap();
    assert_eq!(lock.levels(), 1);
    assert!(other.acquire_nowait().await.unwrap().is_none());
    second.release().await.unwrap();
    assert!(other.acquire_nowait().await.unwrap().is_some());
}

#[tokio::test]
async fn another_task_is_not_its_owner_and_waits() {
    let (_broker, lock) = rlock().await;
    let held = lock.acquire().await.unwrap();
    let other = lock.clone();
    let task = tokio::spawn(async move {
        assert_eq!(other.levels(), 0);
        let released = other.release().await;
        assert!(
            matches!(released, Err(Error::NotOwner { .. })),
            "{released:?}"
        );
        assert!(other.acquire_nowait().await.unwrap().is_none());
        other.acquire_timeout(SOON).await.unwrap().unwrap()
    });
    let stands = async || (lock.waiting().await.unwrap() == 1).then_some(());
    eventually_async("it stands in line", SOON, stands).await;
    held.release().await.unwrap();
    let guard = task.await.unwrap();
    assert_eq!(lock.levels(), 0, "the task owned it, not this one");
    guard.release().await.unwrap();
    assert!(!lock.locked().await.unwrap());
}

#[tokio::test]
async fn as_in_python_it_is_acquired_and_released_without_guards() {
    let (_broker, lock) = rlock().await;
    lock.acquire().await.unwrap().leak();
    lock.acquire().await.unwrap().leak();
    lock.release().await.unwrap();
    assert!(lock.locked().await.unwrap());
    lock.release().await.unwrap();
    assert!(!lock.locked().await.unwrap());
    assert!(matches!(lock.release().await, Err(Error::NotOwner { .. })));
}

#[tokio::test]
async fn what_is_left_of_a_lost_turn_gives_nothing_back() {
    let (_broker, lock) = rlock().await;
    let lock = lock.with_lease(Duration::from_secs(1));
    let lost = lock.acquire().await.unwrap();
    lock.force_release().await.unwrap();
    lost.lost().await;
    assert!(matches!(lock.acquire().await, Err(Error::GrantLost { .. })));
    let other = lock.clone();
    let next = tokio::spawn(async move { other.acquire().await.unwrap() })
        .await
        .unwrap();
    assert!(lost.is_lost() && lost.fence() < next.fence());
    drop(lost);
    assert!(!next.is_lost() && lock.locked().await.unwrap());
    next.release().await.unwrap();
}
