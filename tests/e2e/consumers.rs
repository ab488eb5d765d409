//! Completion queues: whatever happens to a consumer, each completion reaches one that confirms it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pmq_broker::{Broker, Config, Task, TaskId};
use pmq_tests::{Proxy, RedisServer, eventually, eventually_async};

use crate::fleet::{Fleet, SOON, collect, name};

const COMPLETIONS: usize = 600;

/// A queue whose tasks have all ended.
async fn completed(url: String) -> Fleet {
    let fleet = Fleet::at(url).await;
    let tasks: Vec<Task> = (0..COMPLETIONS)
        .map(|_| Task::handler("record", ""))
        .collect();
    fleet.queue.submit_many(&tasks).await.unwrap();
    let worker = fleet.handlers(50);
    eventually_async("all have ended", SOON, async || {
        let ended = fleet.consumer().len().await.ok()?;
        (ended == COMPLETIONS as u64).then_some(())
    })
    .await;
    drop(worker);
    fleet
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_of_500_completions_loses_none_and_repeats_none() {
    let server = RedisServer::start();
    let proxy = Proxy::to(&server);
    let fleet = completed(server.url()).await;
    let broker = Broker::connect(&Config::url(proxy.url())).await.unwrap();
    let queue = broker.task_queue(fleet.queue.name());
    let mut consumer = queue.completions(&name("done"));
    proxy.drop_next_reply();
    let first = consumer.get_many_nowait(500).await.unwrap();
    assert_eq!((first.len(), proxy.replies_dropped()), (500, 1));
    proxy.drop_next_reply();
    let rest = consumer.get_many_nowait(500).await.unwrap();
    assert_eq!(
        (rest.len(), proxy.replies_dropped()),
        (COMPLETIONS - 500, 2)
    );
    let ids: HashSet<TaskId> = first
        .iter()
        .chain(&rest)
        .map(|completion| completion.id)
        .collect();
    assert_eq!(ids.len(), COMPLETIONS, "each once");
    consumer.close().await.unwrap();
    assert!(fleet.consumer().is_empty().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_got_last_is_confirmed_while_its_consumer_waits_for_more() {
    let server = RedisServer::start();
    let fleet = completed(server.url()).await;
    let mut consumer = fleet.consumer();
    assert_eq!(collect(&mut consumer, COMPLETIONS).await.len(), COMPLETIONS);
    let waits = tokio::spawn(async move { consumer.get(SOON).await });
    let claims = fleet.queue.first().keys().fixed()[5].clone();
    eventually("nothing is unconfirmed", SOON, || {
        let mut held = redis::cmd("HVALS");
        let held: Vec<Vec<u8>> = held.arg(&claims).query(&mut server.connection()).unwrap();
        held.iter().all(|log| log.len() < 100).then_some(())
    });
    assert!(!waits.is_finished());
    waits.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_was_given_up_holds_up_no_later_one() {
    let fleet = Fleet::new().await;
    let _worker = fleet.handlers(1);
    let mut consumer = fleet.consumer();
    let task = || Task::handler("record", "");
    fleet.submit(&task()).await;
    assert!(consumer.get(SOON).await.unwrap().is_some());
    let given_up = tokio::time::timeout(Duration::from_millis(50), consumer.get(SOON));
    assert!(given_up.await.is_err());
    fleet.submit(&task()).await;
    eventually_async("it has ended", SOON, async || {
        (fleet.consumer().len().await.ok()? == 1).then_some(())
    })
    .await;
    // The token of this one went to the call that nobody awaits.
    let start = Instant::now();
    assert!(consumer.get(SOON).await.unwrap().is_some());
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_consumer_took_comes_back_to_the_next() {
    let server = RedisServer::start();
    let fleet = completed(server.url()).await;
    let mut killed = fleet.forgetful_consumer();
    let _ = killed.wait_for_line("took 500");
    killed.kill();
    let mut next = fleet.consumer();
    assert_eq!(
        next.get_many_nowait(500).await.unwrap().len(),
        COMPLETIONS - 500
    );
    // Somebody must notice that its lease ended: any worker does.
    let _worker = fleet.worker("-c 1 --lease 1s");
    let got = collect(&mut next, 500).await;
    assert_eq!(got.len(), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_is_killed_while_it_prints_loses_nothing() {
    let server = RedisServer::start();
    let fleet = completed(server.url()).await;
    // It waits for one more than there are, so it holds its last batch when it is killed.
    let from = format!("{}/done", fleet.queue.name());
    let mut get = fleet.pmq().spawn(["get", &from, "-n", "601", "--json"]);
    eventually_async("it has printed them", Duration::from_secs(20), async || {
        (get.lines().len() == COMPLETIONS).then_some(())
    })
    .await;
    let printed: HashSet<TaskId> = get.lines().iter().map(|line| id_of(line)).collect();
    get.kill();
    let _worker = fleet.worker("-c 1 --lease 1s");
    let mut next = fleet.consumer();
    let mut got = printed;
    while let Some(completion) = next.get(Duration::from_millis(100)).await.unwrap() {
        got.insert(completion.id);
    }
    assert_eq!(got.len(), COMPLETIONS);
}

fn id_of(line: &str) -> TaskId {
    let completion: serde_json::Value = serde_json::from_str(line).unwrap();
    completion["id"].as_str().unwrap().parse().unwrap()
}
