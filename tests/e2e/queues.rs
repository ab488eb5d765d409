//! Plain queues, as a program uses them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use pmq_broker::queue::ITEM_LIMIT;
use pmq_broker::{Broker, Config, Error, GetError, PutError, Queue};
use pmq_tests::{Proxy, Redis, RedisServer, eventually, eventually_async, shared};
use tokio::time::timeout;

use crate::fleet::{LONG, SOON, name};

const BRIEF: Duration = Duration::from_millis(20);

async fn broker() -> Broker {
    let config = Config::url(shared().url());
    Broker::connect(&config).await.unwrap()
}

/// The keys of the queue of this name.
fn keys(queue: &str) -> Vec<String> {
    let mut redis = shared().raw();
    let pattern = format!("pmq:queue:{{{queue}}}:*");
    redis::cmd("KEYS").arg(pattern).query(&mut redis).unwrap()
}

#[tokio::test]
async fn a_full_queue_gives_the_items_back_and_an_empty_one_says_so() {
    let queue = broker().await.queue::<u32>(&name("bounded")).maxsize(2);
    assert!(matches!(queue.get_nowait().await, Err(GetError::Empty)));
    assert!(matches!(
        queue.get_timeout(BRIEF).await,
        Err(GetError::Empty)
    ));
    assert!(queue.empty().await.unwrap() && !queue.full().await.unwrap());
    let Err(PutError::Full(rest)) = queue.put_many_nowait(vec![1, 2, 3, 4]).await else {
        panic!("there was room for all");
    };
    assert_eq!(rest, [3, 4]);
    assert!(!queue.empty().await.unwrap() && queue.full().await.unwrap());
    let full = queue.put_nowait(5).await.unwrap_err();
    assert!(matches!(full, PutError::Full(5)), "{full:?}");
    let full = queue.put_timeout(6, BRIEF).await.unwrap_err();
    assert_eq!(full.into_item(), 6);
    assert_eq!(queue.qsize().await.unwrap(), 2);
    assert_eq!(queue.get_many(9).await.unwrap(), [1, 2]);
    queue.put_nowait(7).await.unwrap();
    assert_eq!(queue.get().await.unwrap(), 7);
}

#[tokio::test]
async fn a_closed_handle_refuses_and_others_go_on() {
    let broker = broker().await;
    let queue = broker.queue::<u32>(&name("closed"));
    queue.put(1).await.unwrap();
    let early = queue.join_thread().await.unwrap_err();
    assert!(matches!(early, Error::NotClosed { .. }), "{early}");
    queue.close();
    queue.close();
    queue.join_thread().await.unwrap();
    assert!(matches!(queue.put(2).await, Err(PutError::Closed(2))));
    assert!(matches!(
        queue.clone().put_nowait(2).await,
        Err(PutError::Closed(2))
    ));
    assert!(matches!(queue.get().await, Err(GetError::Closed)));
    assert!(matches!(queue.empty().await, Err(Error::Closed { .. })));
    assert_eq!(queue.qsize().await.unwrap(), 1);
    let other = broker.simple_queue::<u32>(&name("closed"));
    assert_eq!(other.get().await.unwrap(), 1);
    other.close();
    assert!(other.empty().await.is_err());
}

#[tokio::test]
async fn join_thread_waits_for_the_puts_under_way() {
    let broker = broker().await;
    let queue = broker.queue::<u32>(&name("flush")).maxsize(1);
    let other = broker.queue::<u32>(&name("flush"));
    queue.put(1).await.unwrap();
    let put = tokio::spawn({
        let queue = queue.clone();
        async move { queue.put(2).await }
    });
    in_line("flush", "putters", 1).await;
    queue.close();
    assert!(timeout(BRIEF, queue.join_thread()).await.is_err());
    assert_eq!(other.get().await.unwrap(), 1);
    queue.join_thread().await.unwrap();
    assert_eq!(other.get_nowait().await.unwrap(), 2);
    put.await.unwrap().unwrap();
    queue.cancel_join_thread();
    queue.join_thread().await.unwrap();
}

/// Waits until `n` stand in a line of a queue.
async fn in_line(queue: &str, line: &str, n: u64) {
    let key = format!("pmq:queue:{{{queue}}}:{line}");
    let mut redis = shared().raw();
    eventually_async("they stand in line", SOON, async || {
        let length: u64 = redis::cmd("ZCARD").arg(&key).query(&mut redis).unwrap();
        (length == n).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_no_item_is_refused_and_what_is_no_t_comes_as_bytes() {
    let broker = broker().await;
    let odd = broker.queue::<HashMap<Vec<u8>, u8>>(&name("odd"));
    let refused = odd.put(HashMap::from([(vec![1], 2)])).await.unwrap_err();
    assert!(
        matches!(&refused, PutError::Unserializable { .. }),
        "{refused:?}"
    );
    assert_eq!(refused.into_item().len(), 1);

    let raw = broker.raw_queue(&name("odd"));
    let large = raw
        .put(Bytes::from(vec![0; ITEM_LIMIT + 1]))
        .await
        .unwrap_err();
    let PutError::Broker {
        source: Error::TooLarge { .. },
        ..
    } = large
    else {
        panic!("{large:?}");
    };
    assert_eq!(raw.qsize().await.unwrap(), 0);

    let numbers = broker.queue::<u32>(&name("odd"));
    raw.put_many(vec![Bytes::from("7"), Bytes::from("seven")])
        .await
        .unwrap();
    let Err(GetError::Unreadable { items, .. }) = numbers.get_many(2).await else {
        panic!("seven is a number");
    };
    assert_eq!(items, ["7", "seven"]);
}

#[tokio::test]
async fn large_items_pass_one_by_one() {
    let queue = broker().await.raw_queue(&name("large"));
    let item = |size: usize, byte: u8| Bytes::from(vec![byte; size]);
    let items = vec![
        item(ITEM_LIMIT, 1),
        item(10, 2),
        item(900_000, 3),
        item(900_000, 4),
    ];
    queue.put_many(items.clone()).await.unwrap();
    let mut got = Vec::new();
    while got.len() < items.len() {
        let some = queue.get_many_nowait(500).await.unwrap();
        assert!(some.len() == 1 || some.iter().map(Bytes::len).sum::<usize>() <= 1 << 20);
        got.extend(some);
    }
    assert!(got == items);
}

#[tokio::test]
async fn the_bound_is_that_of_the_first_user() {
    let broker = broker().await;
    let open = |n| broker.queue::<u32>(&name("size")).maxsize(n);
    let first = open(2);
    first.put(1).await.unwrap();
    let Err(PutError::Broker { source, .. }) = open(3).put_nowait(2).await else {
        panic!("it has another bound");
    };
    assert!(
        matches!(
            source,
            Error::OtherSize {
                size: 2,
                asked: 3,
                ..
            }
        ),
        "{source}"
    );
    let any = broker.queue::<u32>(&name("size"));
    any.put(2).await.unwrap();
    assert!(any.full().await.unwrap());
    any.get_many(2).await.unwrap();
    drop((first, any));
    // Nobody uses it, so it may have another.
    eventually_async("the handles have left", SOON, async || {
        open(3).put_nowait(1).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_putters_and_one_place() {
    let mut putters = Vec::new();
    for putter in 0..20_u32 {
        let queue = broker().await.queue::<u32>(&name("one")).maxsize(1);
        putters.push(tokio::spawn(async move { queue.put(putter).await }));
    }
    let queue = broker().await.queue::<u32>(&name("one"));
    let mut got = BTreeSet::new();
    while got.len() < 20 {
        assert!(queue.qsize().await.unwrap() <= 1);
        got.insert(queue.get_timeout(SOON).await.unwrap());
    }
    for putter in putters {
        putter.await.unwrap().unwrap();
    }
    assert!(queue.empty().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn join_waits_until_all_is_done() {
    let broker = broker().await;
    let queue = broker.joinable_queue::<u32>(&name("joinable")).maxsize(1);
    let early = queue.task_done().await.unwrap_err();
    assert!(matches!(early, Error::TooManyDone { .. }), "{early}");
    queue.join().await.unwrap();
    let producers: Vec<_> = (0..3_u32)
        .map(|producer| {
            let queue = queue.clone();
            tokio::spawn(async move {
                for n in 0..20 {
                    queue.put(producer * 100 + n).await.unwrap();
                }
            })
        })
        .collect();
    let mut got = BTreeSet::from([queue.get().await.unwrap()]);
    assert!(!queue.join_timeout(BRIEF).await.unwrap());
    let join = tokio::spawn({
        let queue = queue.clone();
        async move { queue.join().await }
    });
    queue.task_done().await.unwrap();
    while got.len() < 60 {
        assert!(got.insert(queue.get_timeout(SOON).await.unwrap()));
        queue.task_done().await.unwrap();
    }
    for producer in producers {
        producer.await.unwrap();
    }
    queue.join_timeout(SOON).await.unwrap();
    timeout(SOON, join).await.unwrap().unwrap().unwrap();
    assert!(queue.task_done().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_on_one_handle_do_not_wait_for_each_other() {
    let queue = broker().await.queue::<u32>(&name("lanes"));
    let mut waiting: Vec<_> = (0..5)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.get().await.unwrap() })
        })
        .collect();
    in_line("lanes", "getters", 5).await;
    assert!(matches!(queue.get_nowait().await, Err(GetError::Empty)));
    queue.put_many((0..5).collect()).await.unwrap();
    let mut got = BTreeSet::new();
    for getter in &mut waiting {
        got.insert(getter.await.unwrap());
    }
    assert_eq!(got, (0..5).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_is_dropped_at_any_moment_loses_nothing() {
    let queue = broker().await.queue::<u32>(&name("dropped")).maxsize(3);
    let producer = tokio::spawn({
        let queue = queue.clone();
        async move {
            for n in 0..300 {
                queue.put(n).await.unwrap();
            }
        }
    });
    let (mut got, mut dropped) = (Vec::new(), 0);
    while got.len() < 300 {
        let patience = Duration::from_micros(fastrand::u64(0..1500));
        match timeout(patience, queue.get()).await {
            Ok(item) => got.push(item.unwrap()),
            Err(_) => dropped += 1,
        }
        assert!(dropped < 100_000, "got {}", got.len());
    }
    producer.await.unwrap();
    assert_eq!(got.iter().copied().collect::<BTreeSet<_>>().len(), 300);
    assert!(dropped > 0);
    assert_eq!(queue.qsize().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_replies_lose_and_repeat_nothing() {
    let server = RedisServer::builder().tcp(true).start();
    let proxy = Proxy::to(&server);
    let broker = Broker::connect(&Config::url(proxy.url())).await.unwrap();
    let queue: Queue<u32> = broker.queue(&name("lost")).maxsize(10);
    let getter = tokio::spawn({
        let queue = queue.clone();
        async move {
            let mut got = Vec::new();
            while got.len() < 200 {
                got.extend(queue.get_many(4).await.unwrap());
            }
            got
        }
    });
    for n in 0..200 {
        if n % 10 == 0 {
            proxy.drop_next_reply();
        }
        queue.put(n).await.unwrap();
    }
    let got = timeout(LONG, getter).await.unwrap().unwrap();
    assert_eq!(got, (0..200).collect::<Vec<_>>());
    assert!(proxy.replies_dropped() > 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anonymous_queue_goes_with_its_last_handle() {
    let one = broker().await.anonymous_queue::<u32>();
    one.put(1).await.unwrap();
    let two = broker().await.queue::<u32>(one.name());
    two.put(2).await.unwrap();
    let queue = one.name().to_string();
    drop(one);
    assert_eq!(two.get().await.unwrap(), 1);
    drop(two);
    eventually("its keys are gone", SOON, || {
        keys(&queue).is_empty().then_some(())
    });
}

#[tokio::test]
async fn a_queue_that_is_empty_and_unused_leaves_no_key() {
    let queue = broker().await.queue::<u32>(&name("traceless"));
    queue.put(1).await.unwrap();
    queue.get().await.unwrap();
    drop(queue);
    eventually("its keys are gone", SOON, || {
        keys("traceless").is_empty().then_some(())
    });
}
