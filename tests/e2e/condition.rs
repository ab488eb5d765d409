//! Conditions between processes.

use std::time::Duration;

use pmq_broker::{Condition, Error};
use pmq_tests::program::Running;
use pmq_tests::shared;

use crate::fleet::{Fleet, SOON, name};
use crate::keys::Keys;
use crate::roles::{as_test, broker, queue};

/// A condition with a fleet's name, and processes that sleep on it.
struct Stage {
    fleet: Fleet,
    condition: Condition,
    keys: Keys,
    sleepers: String,
}

impl Stage {
    async fn new() -> Self {
        let fleet = Fleet::new().await;
        let name = fleet.queue.name();
        Self {
            condition: fleet.queue.broker().condition(name),
            keys: Keys::new(shared(), "lock", name),
            sleepers: format!("sleepers:{name}"),
            fleet,
        }
    }

    /// Starts a process that sleeps on the condition.
    async fn sleeper(&self) -> Running {
        let before = self.keys.line(&self.sleepers).len();
        let sleeper = self.fleet.stand_in().spawn(as_test("condition::sleeper"));
        self.keys.wait_for_line(&self.sleepers, before + 1).await;
        sleeper
    }

    async fn notify(&self, n: usize) {
        let permit = self.condition.acquire().await.unwrap();
        self.condition.notify(&permit, n).await.unwrap();
        permit.release().await.unwrap();
    }
}

#[tokio::test]
#[ignore = "is the sleeping process of other tests"]
async fn sleeper() {
    let Some(name) = queue() else { return };
    let condition = broker().await.condition(&name);
    let permit = condition.acquire().await.unwrap();
    let before = permit.fence();
    let permit = condition.wait(permit).await.unwrap();
    assert!(permit.fence() > before && !permit.is_lost());
    println!("woken");
    permit.release().await.unwrap();
}

#[tokio::test]
async fn as_many_wake_as_are_notified_in_their_order() {
    let stage = Stage::new().await;
    let mut sleepers = Vec::new();
    for _ in 0..4 {
        sleepers.push(stage.sleeper().await);
    }
    stage.notify(0).await;
    stage.notify(2).await;
    let _ = sleepers[0].wait_for_line("woken");
    let _ = sleepers[1].wait_for_line("woken");
    assert_eq!(stage.keys.line(&stage.sleepers).len(), 2);
    let permit = stage.condition.acquire().await.unwrap();
    stage.condition.notify_all(&permit).await.unwrap();
    permit.release().await.unwrap();
    let _ = sleepers[2].wait_for_line("woken");
    let _ = sleepers[3].wait_for_line("woken");
}

#[tokio::test]
async fn a_sleeper_that_was_killed_is_passed_over() {
    let stage = Stage::new().await;
    let mut dead = stage.sleeper().await;
    let member = stage.keys.line(&stage.sleepers).remove(0);
    let alive = stage.sleeper().await;
    dead.kill();
    stage.keys.end_lease(&member);
    stage.notify(1).await;
    let _ = alive.wait_for_line("woken");
}

#[tokio::test]
async fn what_a_killed_sleeper_did_not_live_to_see_goes_to_the_next() {
    let stage = Stage::new().await;
    let mut dead = stage.sleeper().await;
    let alive = stage.sleeper().await;
    dead.kill();
    stage.notify(1).await;
    let _ = alive.wait_for_line("woken");
}

#[tokio::test]
async fn a_sleeper_that_stood_still_wakes_when_it_goes_on() {
    let stage = Stage::new().await;
    let still = stage.sleeper().await;
    let member = stage.keys.line(&stage.sleepers).remove(0);
    still.stop();
    stage.keys.end_lease(&member);
    stage.notify(1).await;
    assert!(!stage.condition.lock().locked().await.unwrap());
    still.resume();
    let _ = still.wait_for_line("woken");
}

#[tokio::test]
async fn a_timeout_takes_the_lock_again_and_counts_for_nobody() {
    let stage = Stage::new().await;
    let condition = &stage.condition;
    let permit = condition.acquire().await.unwrap();
    let before = permit.fence();
    let soon = Duration::from_millis(30);
    let (permit, notified) = condition.wait_timeout(permit, soon).await.unwrap();
    assert!(!notified && permit.fence() > before);
    assert!(condition.lock().locked().await.unwrap());
    assert!(stage.keys.line(&stage.sleepers).is_empty());
    permit.release().await.unwrap();

    let sleeper = stage.sleeper().await;
    stage.notify(1).await;
    let _ = sleeper.wait_for_line("woken");
}

#[tokio::test]
async fn a_notification_before_the_timeout_counts_however_late_the_lock_is_free() {
    let stage = Stage::new().await;
    let condition = stage.condition.clone();
    let waiting = tokio::spawn(async move {
        let permit = condition.acquire().await.unwrap();
        let long = Duration::from_millis(700);
        condition.wait_timeout(permit, long).await.unwrap()
    });
    stage.keys.wait_for_line(&stage.sleepers, 1).await;
    let permit = stage.condition.acquire().await.unwrap();
    stage.condition.notify(&permit, 1).await.unwrap();
    let late = tokio::time::timeout(Duration::from_secs(1), permit.lost()).await;
    assert!(late.is_err() && !waiting.is_finished());
    permit.release().await.unwrap();
    let (_, notified) = waiting.await.unwrap();
    assert!(notified);
}

#[tokio::test]
async fn a_dropped_wait_passes_its_notification_on() {
    let stage = Stage::new().await;
    let condition = stage.condition.clone();
    let dropped = tokio::spawn(async move {
        let permit = condition.acquire().await.unwrap();
        condition.wait(permit).await
    });
    stage.keys.wait_for_line(&stage.sleepers, 1).await;
    let alive = stage.sleeper().await;
    let permit = stage.condition.acquire().await.unwrap();
    stage.condition.notify(&permit, 1).await.unwrap();
    dropped.abort();
    permit.release().await.unwrap();
    let _ = alive.wait_for_line("woken");
}

#[tokio::test]
async fn a_lock_has_several_conditions_and_wait_for_looks_each_time() {
    let stage = Stage::new().await;
    let lock = stage.condition.lock().clone();
    let other = lock.condition(&name("other"));
    let filled = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let consumer = tokio::spawn({
        let (condition, filled) = (stage.condition.clone(), filled.clone());
        async move {
            let permit = condition.acquire().await.unwrap();
            let is_full =
                || std::future::ready(filled.load(std::sync::atomic::Ordering::SeqCst) == 3);
            condition.wait_for(permit, is_full).await.unwrap()
        }
    });
    for _ in 0..3 {
        stage.keys.wait_for_line(&stage.sleepers, 1).await;
        let permit = lock.acquire().await.unwrap();
        filled.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        other.notify_all(&permit).await.unwrap();
        stage.condition.notify(&permit, 1).await.unwrap();
        permit.release().await.unwrap();
    }
    let permit = tokio::time::timeout(SOON, consumer).await.unwrap().unwrap();
    let never = || std::future::ready(false);
    let soon = Duration::from_millis(10);
    let (_, is_true) = other.wait_for_timeout(permit, soon, never).await.unwrap();
    assert!(!is_true);
}

#[tokio::test]
async fn whoever_does_not_hold_the_lock_is_refused() {
    let stage = Stage::new().await;
    let condition = &stage.condition;
    let stranger = stage.fleet.queue.broker().lock(&name("stranger"));
    let permit = stranger.acquire().await.unwrap();
    let refused = condition.notify(&permit, 1).await;
    assert!(matches!(
        refused,
        Err(Error::NotAcquired { call: "notify", .. })
    ));
    let refused = condition.wait(permit).await.err();
    assert!(matches!(
        refused,
        Some(Error::NotAcquired { call: "wait", .. })
    ));

    for wait in [false, true] {
        let permit = condition.acquire().await.unwrap();
        condition.lock().force_release().await.unwrap();
        let refused = if wait {
            condition.wait(permit).await.err()
        } else {
            condition.notify_all(&permit).await.err()
        };
        assert!(matches!(refused, Some(Error::GrantLost { .. })));
    }
}

#[tokio::test]
async fn a_wait_gives_up_all_levels_of_an_rlock_and_takes_them_back() {
    let stage = Stage::new().await;
    let lock = stage.fleet.queue.broker().rlock(stage.fleet.queue.name());
    let condition = lock.condition(stage.condition.name());
    let outer = lock.acquire().await.unwrap();
    let inner = lock.acquire().await.unwrap();
    let notify = async {
        stage.keys.wait_for_line(&stage.sleepers, 1).await;
        stage.notify(1).await;
    };
    let (woken, ()) = tokio::join!(condition.wait_levels(&lock), notify);
    woken.unwrap();
    assert_eq!(lock.levels(), 2);
    condition.notify_levels(&lock, 1).await.unwrap();
    let soon = Duration::from_millis(10);
    assert!(!condition.wait_levels_timeout(&lock, soon).await.unwrap());
    assert!(!inner.is_lost() && !outer.is_lost());
    inner.release().await.unwrap();
    outer.release().await.unwrap();
    assert!(!lock.locked().await.unwrap());
    let refused = condition.wait_levels(&lock).await;
    assert!(matches!(refused, Err(Error::NotOwner { .. })));
}
