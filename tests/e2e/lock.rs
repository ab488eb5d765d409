//! Locks and semaphores between clients: what each call promises, and what it answers where it is used badly.

use std::collections::HashSet;
use std::task::Poll;
use std::time::{Duration, Instant};

use pmq_broker::{Broker, Config, Error, Lock, Permit, Semaphore};
use pmq_tests::{Proxy, Redis, RedisServer, eventually, eventually_async, shared};

use crate::fleet::{Fleet, SOON, name};
use crate::keys::Keys;

const LEASE: Duration = Duration::from_secs(1);

async fn broker_at(url: &str) -> Broker {
    Broker::connect(&Config::url(url)).await.unwrap()
}

/// A lock of its own.
async fn lock() -> Lock {
    let fleet = Fleet::new().await;
    fleet.queue.broker().lock(fleet.queue.name())
}

async fn semaphore(permits: u64) -> Semaphore {
    let fleet = Fleet::new().await;
    fleet.queue.broker().semaphore(fleet.queue.name(), permits)
}

async fn take(lock: &Lock) -> Permit {
    lock.acquire_timeout(SOON).await.unwrap().unwrap()
}

#[tokio::test]
async fn one_holds_it_and_the_others_wait_in_order() {
    let lock = lock().await;
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
}

#[tokio::test]
async fn who_waits_first_is_served_first() {
    let semaphore = semaphore(0).await;
    let mut waiters = Vec::new();
    for place in 1..=5 {
        let (waiter, line) = (semaphore.clone(), semaphore.clone());
        waiters.push(tokio::spawn(async move { waiter.acquire().await.unwrap() }));
        let stands = async || (line.waiting().await.unwrap() == place).then_some(());
        eventually_async("it stands in line", SOON, stands).await;
    }
    let mut fences = Vec::new();
    for waiter in waiters {
        semaphore.release().await.unwrap();
        fences.push(waiter.await.unwrap().fence());
    }
    assert!(fences.is_sorted(), "{fences:?}");
}

/// As for a process that stood still: its lease ended, another holds the lock, and it stands in line anew.
#[tokio::test]
async fn old_news_of_a_grant_is_not_believed() {
    let fleet = Fleet::new().await;
    let lock = fleet.queue.broker().lock(fleet.queue.name());
    let keys = Keys::new(shared(), "lock", lock.name());
    let held = take(&lock).await;
    let waiter = tokio::spawn({
        let lock = lock.clone();
        async move { take(&lock).await }
    });
    keys.wait_for_line("waiters", 1).await;
    let member = keys.line("waiters").remove(0);
    let channel = [b"pmq:client:", &member[..10]].concat();
    let news = [&member[..], held.fence().to_string().as_bytes()].concat();
    let mut connection = shared().raw();
    let mut leases = HashSet::new();
    // Whenever it hears something that it does not believe, it asks again, which renews its lease.
    eventually_async("it has heard the news", SOON, async || {
        let mut publish = redis::cmd("PUBLISH");
        publish
            .arg(&channel)
            .arg(&news)
            .exec(&mut connection)
            .unwrap();
        let mut score = redis::cmd("ZSCORE");
        score.arg(keys.key("members")).arg(&member);
        let lease: u64 = score.query(&mut connection).unwrap();
        leases.insert(lease);
        (leases.len() > 5 || waiter.is_finished()).then_some(())
    })
    .await;
    let fence = held.fence();
    held.release().await.unwrap();
    assert!(waiter.await.unwrap().fence() > fence);
}

#[tokio::test]
async fn a_place_that_is_given_up_holds_nobody_up_and_keeps_nothing() {
    let lock = lock().await;
    let held = take(&lock).await;
    for _ in 0..20 {
        let patience = Duration::from_micros(fastrand::u64(0..3000));
        let _ = tokio::time::timeout(patience, lock.acquire()).await;
    }
    held.release().await.unwrap();
    // Some of those were granted on their way, and give it back.
    take(&lock).await.release().await.unwrap();
    let left = async || {
        let held = lock.locked().await.unwrap() || lock.waiting().await.unwrap() > 0;
        (!held).then_some(())
    };
    eventually_async("nobody is left", Duration::from_secs(2), left).await;
}

#[tokio::test]
async fn a_dropped_permit_is_given_back() {
    let lock = lock().await;
    drop(take(&lock).await);
    let started = Instant::now();
    take(&lock).await.release().await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "not by its lease"
    );
}

#[tokio::test]
async fn a_lock_that_nobody_holds_is_not_released() {
    let lock = lock().await;
    let released = lock.force_release().await;
    assert!(
        matches!(released, Err(Error::NotHeld { .. })),
        "{released:?}"
    );
    assert!(released.unwrap_err().hint().is_some());
    take(&lock).await.release().await.unwrap();
    assert!(lock.force_release().await.is_err());
}

#[tokio::test]
async fn anybody_may_release_a_lock_by_force_and_the_holder_learns_of_it() {
    let lock = lock().await.with_lease(LEASE);
    let (held, other) = (take(&lock).await, lock.clone());
    let waiter = tokio::spawn(async move { other.acquire().await.unwrap() });
    lock.force_release().await.unwrap();
    let next = waiter.await.unwrap();
    assert!(!next.was_abandoned());
    held.lost().await;
    assert!(held.is_lost());
    let released = held.release().await;
    assert!(
        matches!(released, Err(Error::GrantLost { .. })),
        "{released:?}"
    );
    assert!(!next.is_lost());
    next.release().await.unwrap();

    // At once, before any renewal tells.
    let held = take(&lock).await;
    lock.force_release().await.unwrap();
    assert!(held.release().await.is_err());
}

#[tokio::test]
async fn a_leaked_lock_stays_held_until_it_is_released_by_force() {
    let lock = lock().await.with_lease(LEASE);
    take(&lock).await.leak().await.unwrap();
    let patience = LEASE * 2;
    assert!(lock.acquire_timeout(patience).await.unwrap().is_none());
    lock.force_release().await.unwrap();
    let next = take(&lock).await;
    assert!(!next.was_abandoned());
    next.release().await.unwrap();
    assert!(lock.force_release().await.is_err());
}

#[tokio::test]
async fn a_semaphore_has_so_many_permits_and_may_rise_above_them() {
    let semaphore = semaphore(2).await;
    let held = [(); 2].map(|()| semaphore.acquire());
    let [first, second] = held;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!(semaphore.value().await.unwrap(), 0);
    semaphore.release().await.unwrap();
    assert_eq!(semaphore.value().await.unwrap(), 1);
    first.release().await.unwrap();
    second.release().await.unwrap();
    assert_eq!(semaphore.value().await.unwrap(), 3);
}

#[tokio::test]
async fn a_bounded_semaphore_does_not_rise() {
    let fleet = Fleet::new().await;
    let bounded = fleet.queue.broker().bounded_semaphore(&name("bounded"), 2);
    assert!(matches!(
        bounded.release().await,
        Err(Error::NotHeld { .. })
    ));
    let oldest = bounded.acquire().await.unwrap();
    let newest = bounded.acquire().await.unwrap();
    bounded.release().await.unwrap();
    assert_eq!(bounded.value().await.unwrap(), 1);
    assert!(matches!(
        oldest.release().await,
        Err(Error::GrantLost { .. })
    ));
    newest.leak().await.unwrap();
    assert_eq!(bounded.value().await.unwrap(), 1);
    bounded.release().await.unwrap();
    assert_eq!(bounded.value().await.unwrap(), 2);
    assert!(bounded.release().await.is_err());
}

#[tokio::test]
async fn a_size_that_differs_is_refused_while_it_is_in_use() {
    let fleet = Fleet::new().await;
    let broker = fleet.queue.broker();
    let (three, four) = (
        broker.semaphore(&name("size"), 3),
        broker.semaphore(&name("size"), 4),
    );
    let held = three.acquire().await.unwrap();
    let refused = four.acquire_nowait().await.unwrap_err();
    assert!(matches!(
        refused,
        Error::OtherSize {
            size: 3,
            asked: 4,
            ..
        }
    ));
    assert!(refused.hint().is_some());
    assert!(matches!(four.release().await, Err(Error::OtherSize { .. })));
    held.release().await.unwrap();
    assert!(four.acquire_nowait().await.unwrap().is_some());
}

#[tokio::test]
async fn a_key_of_another_type_is_refused_and_nothing_is_taken() {
    let server = RedisServer::start();
    let broker = broker_at(&server.url()).await;
    let lock = broker.lock(&name("odd"));
    let members = "pmq:lock:{odd}:members";
    redis::cmd("SET")
        .arg(members)
        .arg("x")
        .exec(&mut server.connection())
        .unwrap();
    // One that is new makes room for itself; who comes second finds what should not be there.
    take(&lock).await.release().await.unwrap();
    let held = take(&lock).await;
    redis::cmd("SET")
        .arg(members)
        .arg("x")
        .exec(&mut server.connection())
        .unwrap();
    let refused = lock.acquire_nowait().await.unwrap_err();
    assert!(matches!(refused, Error::Unexpected { .. }), "{refused:?}");
    redis::cmd("DEL")
        .arg(members)
        .exec(&mut server.connection())
        .unwrap();
    held.release().await.unwrap();
    assert!(!lock.locked().await.unwrap());
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_counts_once() {
    let server = RedisServer::start();
    let proxy = Proxy::to(&server);
    let far = broker_at(proxy.url()).await.semaphore(&name("s"), 1);
    far.value().await.unwrap();
    proxy.drop_next_reply();
    let permit = far.acquire_timeout(SOON).await.unwrap().unwrap();
    assert_eq!(far.value().await.unwrap(), 0);
    proxy.drop_next_reply();
    permit.release().await.unwrap();
    assert_eq!(far.value().await.unwrap(), 1);
    proxy.drop_next_reply();
    far.release().await.unwrap();
    assert_eq!(far.value().await.unwrap(), 2);
    assert_eq!(proxy.replies_dropped(), 3);
}

#[tokio::test]
async fn posts_are_not_remembered_for_good() {
    let server = RedisServer::start();
    let semaphore = broker_at(&server.url()).await.semaphore(&name("s"), 0);
    for _ in 0..300 {
        semaphore.release().await.unwrap();
    }
    let mut connection = server.connection();
    let log = "pmq:semaphore:{s}:log";
    let known: usize = redis::cmd("HLEN").arg(log).query(&mut connection).unwrap();
    assert_eq!(known, 300);
    for member in redis::cmd("HKEYS")
        .arg(log)
        .query::<Vec<Vec<u8>>>(&mut connection)
        .unwrap()
    {
        let add = ["ZADD", "pmq:semaphore:{s}:members", "1"];
        redis::cmd(add[0])
            .arg(&add[1..])
            .arg(member)
            .exec(&mut connection)
            .unwrap();
    }
    for _ in 0..6 {
        semaphore.release().await.unwrap();
    }
    let known: usize = redis::cmd("HLEN").arg(log).query(&mut connection).unwrap();
    assert_eq!(known, 6);
    let ttl: i64 = redis::cmd("PTTL")
        .arg("pmq:semaphore:{s}:meta")
        .query(&mut connection)
        .unwrap();
    assert_eq!(ttl, -1, "what was posted stays");
}

#[tokio::test]
async fn an_idle_lock_goes_in_the_end_and_its_fence_still_grows() {
    let server = RedisServer::start();
    let lock = broker_at(&server.url()).await.lock(&name("idle"));
    let first = take(&lock).await;
    let fence = first.fence();
    first.release().await.unwrap();
    let mut connection = server.connection();
    let ttl: i64 = redis::cmd("PTTL")
        .arg("pmq:lock:{idle}:meta")
        .query(&mut connection)
        .unwrap();
    assert!(ttl > 0);
    redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
    assert!(take(&lock).await.fence() > fence);
}

#[tokio::test]
async fn a_holder_whose_key_was_lost_learns_of_it_and_the_fence_grows_on() {
    let server = RedisServer::start();
    let lock = broker_at(&server.url())
        .await
        .lock(&name("lost"))
        .with_lease(LEASE);
    for lost in [
        &["pmq:lock:{lost}:meta", "pmq:lock:{lost}:members"][..],
        &["pmq:lock:{lost}:meta"],
    ] {
        let before = take(&lock).await;
        redis::cmd("DEL")
            .arg(lost)
            .exec(&mut server.connection())
            .unwrap();
        let after = take(&lock).await;
        assert!(after.fence() > before.fence());
        before.lost().await;
        assert!(!after.is_lost());
        after.release().await.unwrap();
    }
}

#[tokio::test]
async fn an_outage_while_waiting_does_not_end_the_wait() {
    let mut server = RedisServer::builder().aof(true).start();
    let lock = broker_at(&server.url()).await.lock(&name("out"));
    let held = take(&lock).await;
    let waiter = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire().await.unwrap() }
    });
    let stands = async || (lock.waiting().await.unwrap() == 1).then_some(());
    eventually_async("it stands in line", SOON, stands).await;
    server.kill();
    eventually("the server is down", SOON, || {
        std::os::unix::net::UnixStream::connect(server.socket())
            .is_err()
            .then_some(())
    });
    server.restart();
    held.release().await.unwrap();
    waiter.await.unwrap().release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_cut_off_finds_it_lost_before_another_gets_it() {
    let server = RedisServer::builder().tcp(true).start();
    let proxy = Proxy::to(&server);
    let lease = Duration::from_secs(2);
    let far = broker_at(proxy.url())
        .await
        .lock(&name("cut"))
        .with_lease(lease);
    let near = broker_at(&server.url()).await.lock(&name("cut"));
    let cut_off = take(&far).await;
    proxy.hole(true);
    let start = Instant::now();
    let next = tokio::spawn(async move { take(&near).await });
    cut_off.lost().await;
    assert!(!next.is_finished());
    let next = next.await.unwrap();
    assert!(start.elapsed() < lease + Duration::from_secs(3));
    assert!(next.was_abandoned() && next.fence() > cut_off.fence());
}

#[tokio::test]
async fn a_mark_of_a_dead_holder_waits_for_one_who_sees_it() {
    let fleet = Fleet::new().await;
    let proxy = Proxy::to(RedisServer::shared());
    let far = broker_at(proxy.url()).await.lock(fleet.queue.name());
    let lock = fleet.queue.broker().lock(fleet.queue.name());
    let cut_off = take(&far).await;
    proxy.hole(true);
    // From now on its first call is the one that may wait.
    assert!(lock.acquire_nowait().await.unwrap().is_none());
    expire(&lock);
    // It is granted to one that gives up before it hears of it, and so never sees the mark.
    let mut unseen = Box::pin(lock.acquire());
    std::future::poll_fn(|context| {
        assert!(unseen.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
    let granted = async || lock.locked().await.unwrap().then_some(());
    eventually_async("it is granted", SOON, granted).await;
    drop(unseen);
    let seen = take(&lock).await;
    std::mem::forget(cut_off);
    assert!(seen.was_abandoned());
    seen.release().await.unwrap();
    let next = take(&lock).await;
    assert!(!next.was_abandoned(), "it is told once");
}

/// Ends every lease of a lock.
fn expire(lock: &Lock) {
    Keys::new(shared(), "lock", lock.name()).end_leases(b"");
}
