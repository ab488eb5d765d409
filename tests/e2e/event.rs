//! Events between processes.

use std::time::Duration;

use pmq_broker::Event;
use pmq_tests::program::Running;
use pmq_tests::{Redis, RedisServer, eventually, shared};

use crate::fleet::{Fleet, SOON};
use crate::keys::Keys;
use crate::roles::{as_test, broker, queue};

/// An event with a fleet's name, and processes that wait for it.
struct Stage {
    fleet: Fleet,
    event: Event,
    keys: Keys,
}

impl Stage {
    async fn new() -> Self {
        Self::on(shared()).await
    }

    async fn on(server: &impl Redis) -> Self {
        let fleet = Fleet::at(server.url()).await;
        let name = fleet.queue.name();
        Self {
            event: fleet.queue.broker().event(name),
            keys: Keys::new(server, "event", name),
            fleet,
        }
    }

    /// Starts a process that waits for the event.
    async fn waiter(&self) -> Running {
        let before = self.keys.line("waiters").len();
        let waiter = self.fleet.stand_in().spawn(as_test("event::waiter"));
        self.keys.wait_for_line("waiters", before + 1).await;
        waiter
    }
}

#[tokio::test]
#[ignore = "is the waiting process of other tests"]
async fn waiter() {
    let Some(name) = queue() else { return };
    broker().await.event(&name).wait().await.unwrap();
    println!("woken");
}

#[tokio::test]
async fn set_wakes_all_processes_also_where_it_is_cleared_at_once() {
    let stage = Stage::new().await;
    let event = &stage.event;
    let waiters = [stage.waiter().await, stage.waiter().await];
    assert!(!event.is_set().await.unwrap());
    event.set().await.unwrap();
    event.clear().await.unwrap();
    for waiter in waiters {
        let _ = waiter.wait_for_line("woken");
    }
    assert!(!event.is_set().await.unwrap());
    assert!(stage.keys.line("waiters").is_empty());
}

#[tokio::test]
async fn a_set_event_is_waited_for_in_no_time_until_it_is_cleared() {
    let stage = Stage::new().await;
    let event = &stage.event;
    event.set().await.unwrap();
    event.set().await.unwrap();
    assert!(event.wait_timeout(Duration::ZERO).await.unwrap());
    event.wait().await.unwrap();
    event.clear().await.unwrap();
    assert!(!event.wait_timeout(Duration::ZERO).await.unwrap());
    let soon = Duration::from_millis(20);
    assert!(!event.wait_timeout(soon).await.unwrap());
    assert!(stage.keys.line("waiters").is_empty());
}

#[tokio::test]
async fn a_killed_waiter_disturbs_nobody() {
    let stage = Stage::new().await;
    let mut dead = stage.waiter().await;
    let alive = stage.waiter().await;
    dead.kill();
    stage.event.set().await.unwrap();
    let _ = alive.wait_for_line("woken");
    assert!(stage.keys.line("waiters").is_empty());
}

#[tokio::test]
async fn a_stopped_waiter_learns_that_it_was_set_when_it_goes_on() {
    let stage = Stage::new().await;
    let waiter = stage.waiter().await;
    waiter.stop();
    let event = &stage.event;
    event.set().await.unwrap();
    event.clear().await.unwrap();
    waiter.resume();
    let _ = waiter.wait_for_line("woken");
}

#[tokio::test]
async fn lost_news_delay_a_waiter_but_do_not_lose_it() {
    let server = RedisServer::start();
    let stage = Stage::on(&server).await;
    let waiter = stage.waiter().await;
    let event = &stage.event;
    assert!(!event.is_set().await.unwrap());
    // Without its subscription the waiter hears nothing of the set.
    let mut kill = redis::cmd("CLIENT");
    kill.arg(&["KILL", "TYPE", "pubsub"]);
    eventually("it listens, and no more", SOON, || {
        let killed: u32 = kill.query(&mut server.connection()).unwrap();
        (killed == 1).then_some(())
    });
    event.set().await.unwrap();
    event.clear().await.unwrap();
    let _ = waiter.wait_for_line("woken");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_waiters_than_one_call_wakes_are_all_woken() {
    const WAITERS: usize = 1100;
    let stage = Stage::new().await;
    let event = &stage.event;
    let waiters: Vec<_> = (0..WAITERS)
        .map(|_| {
            let event = event.clone();
            tokio::spawn(async move { event.wait().await })
        })
        .collect();
    stage.keys.wait_for_line("waiters", WAITERS).await;
    event.set().await.unwrap();
    event.clear().await.unwrap();
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_anonymous_event_lives_only_as_long_as_somebody_holds_it() {
    let fleet = Fleet::new().await;
    let event = fleet.queue.broker().anonymous_event();
    event.set().await.unwrap();
    let other = fleet.queue.broker().apart();
    assert!(other.event(event.name()).is_set().await.unwrap());
    let keys = Keys::new(shared(), "event", event.name());
    assert!(!keys.stays("meta") && !keys.stays("members"));
}

#[tokio::test]
async fn an_event_stays_while_it_is_set_and_what_is_idle_expires() {
    let stage = Stage::new().await;
    let event = &stage.event;
    let mut connection = shared().raw();
    let mut expires = |part: &str| {
        let key = format!("pmq:event:{{{}}}:{part}", event.name());
        let ttl: i64 = redis::cmd("TTL").arg(key).query(&mut connection).unwrap();
        assert_ne!(ttl, -2, "{part} is there");
        ttl > 0
    };
    event.clear().await.unwrap();
    event.set().await.unwrap();
    assert!(!expires("meta") && expires("members") && expires("log"));
    event.clear().await.unwrap();
    assert!(expires("meta") && event.is_set().await.is_ok());
    event.set().await.unwrap();
    assert!(!expires("meta"));
}
