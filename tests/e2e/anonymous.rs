//! Objects without a name of their own: they live for as long as some process, or some container, holds them.

use pmq_broker::manager::Share;
use pmq_broker::{Broker, Config, Error, Event, List, Manager, Name, Queue, Shared};
use pmq_tests::shared::Raw;
use pmq_tests::{Redis, eventually, eventually_async, shared};

use crate::fleet::SOON;

async fn broker() -> Broker {
    let config = Config::url(shared().url());
    Broker::connect(&config).await.unwrap()
}

fn keys(connection: &mut Raw, name: &Name) -> Vec<String> {
    let pattern = format!("pmq:*:{{{name}}}:*");
    redis::cmd("KEYS").arg(pattern).query(connection).unwrap()
}

/// Cuts the time to live of its keys to 20 s, and waits until somebody prolongs it.
fn wait_until_renewed(name: &Name) {
    let mut connection = shared().raw();
    let keys = keys(&mut connection, name);
    let meta = keys.iter().find(|key| key.ends_with(":meta")).unwrap();
    for key in &keys {
        let mut expire = redis::cmd("EXPIRE");
        expire.arg(key).arg(20).exec(&mut connection).unwrap();
    }
    eventually("its time to live is prolonged", SOON, || {
        let left: i64 = redis::cmd("TTL").arg(meta).query(&mut connection).unwrap();
        (left > 30).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_semaphore_that_was_posted_stays_while_it_has_a_handle() {
    let semaphore = broker().await.anonymous_semaphore(0);
    semaphore.release().await.unwrap();
    wait_until_renewed(semaphore.name());
    let there = broker().await.semaphore(semaphore.name(), 0);
    assert_eq!(there.value().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_and_a_queue_live_as_long_as_the_list_that_refers_to_them() {
    let broker = broker().await;
    let manager = Manager::new(&broker);
    let event = manager.anonymous_event().await.unwrap();
    event.set().await.unwrap();
    let queue: Queue<u32> = manager.anonymous_queue().await.unwrap();
    queue.put(7).await.unwrap();
    let events: List<Shared<Event>> = manager.list([event.share()]).await.unwrap();
    let queues: List<Shared<Queue<u32>>> = manager.list([queue.share()]).await.unwrap();
    drop((event, queue));
    let (event, queue) = (events.get(0).await.unwrap(), queues.get(0).await.unwrap());
    wait_until_renewed(event.name());
    wait_until_renewed(queue.name());
    assert!(event.open(&broker).is_set().await.unwrap());
    assert_eq!(queue.open(&broker).get().await.unwrap(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_of_what_was_removed_is_told_so() {
    let event = broker().await.anonymous_event();
    event.set().await.unwrap();
    let mut connection = shared().raw();
    let keys = keys(&mut connection, event.name());
    redis::cmd("DEL").arg(keys).exec(&mut connection).unwrap();
    eventually_async("the hold is lost", SOON, async || {
        let is_set = event.is_set().await;
        matches!(is_set, Err(Error::Gone { .. })).then_some(())
    })
    .await;
}
