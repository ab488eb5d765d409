//! What everybody does with pmq in a day, on whatever broker a test has: the commands, and each word of multiprocessing.

use std::time::Duration;

use pmq_broker::{Broker, Manager, Outcome};
use pmq_tests::eventually_async;
use tokio::time::timeout;

use crate::fleet::{Fleet, LONG, SOON, name};
use crate::pool::SQUARE;

const NOW: Duration = Duration::ZERO;

/// Tasks, `map`, `run`, `status`, `lock` through the program, with a worker that is up.
pub(crate) async fn commands_work(fleet: &Fleet) {
    let mut tasks = Vec::new();
    for _ in 0..20 {
        tasks.push(fleet.submit(&fleet.sh("record")).await);
    }
    for completion in fleet.completions(tasks.len()).await.values() {
        assert_eq!((completion.outcome, completion.attempt), (Outcome::Ok, 1));
    }
    let (pmq, queue) = (fleet.pmq(), fleet.queue.name().as_str());
    let id = tasks[0].to_string();
    let status = pmq.run(["status", "-q", queue, &id]).expect_code(0);
    assert!(status.text().contains("ok"), "{}", status.text());
    let map = ["map", "-k", "-q", queue, "echo", ":::", "a", "b", "c"];
    assert_eq!(pmq.run(map).expect_code(0).text(), "a\nb\nc\n");
    let run = ["run", "-q", queue, "--", "sh", "-c", "echo out; exit 3"];
    assert_eq!(pmq.run(run).expect_code(3).text(), "out\n");
    let lock = pmq.run(["lock", "everyday", "--", "echo", "held"]);
    assert_eq!(lock.expect_code(0).text(), "held\n");
}

/// One use of each word, under names with this prefix, which on a Cluster lie in different slots.
pub(crate) async fn words_work(broker: &Broker, prefix: &str) {
    locks_work(broker, prefix).await;
    meetings_work(broker, prefix).await;
    let queue = broker.queue::<u64>(&name(&format!("{prefix}-queue")));
    queue.put_many(vec![1, 2]).await.unwrap();
    assert_eq!(queue.get().await.unwrap(), 1);
    assert_eq!(queue.get_timeout(SOON).await.unwrap(), 2);
    let (ours, theirs) = broker.pipe::<String>().await.unwrap();
    ours.send(&"hello".into()).await.unwrap();
    assert_eq!(theirs.recv().await.unwrap(), "hello");
    let manager = Manager::new(broker);
    let dict = manager.dict([("one".to_owned(), 1)]).await.unwrap();
    dict.insert(&"two".into(), &2).await.unwrap();
    assert_eq!(dict.get(&"two".into()).await.unwrap(), Some(2));
    let list = manager.list([3, 1, 2]).await.unwrap();
    list.sort().await.unwrap();
    assert_eq!(list.get(0).await.unwrap(), 1);
    let value = manager.value(&5).await.unwrap();
    assert_eq!(value.get().await.unwrap(), 5);
}

async fn locks_work(broker: &Broker, prefix: &str) {
    let lock = broker.lock(&name(&format!("{prefix}-lock")));
    let held = lock.acquire().await.unwrap();
    let first = held.fence();
    assert!(lock.acquire_nowait().await.unwrap().is_none());
    held.release().await.unwrap();
    let held = lock.acquire_timeout(SOON).await.unwrap().unwrap();
    assert!(held.fence() > first, "fences grow");
    held.release().await.unwrap();
    let semaphore = broker.semaphore(&name(&format!("{prefix}-semaphore")), 2);
    let (one, two) = (semaphore.acquire().await, semaphore.acquire().await);
    assert!(semaphore.acquire_timeout(NOW).await.unwrap().is_none());
    drop((one, two));
}

async fn meetings_work(broker: &Broker, prefix: &str) {
    let event = broker.event(&name(&format!("{prefix}-event")));
    let waiter = tokio::spawn({
        let event = event.clone();
        async move { event.wait_timeout(SOON).await }
    });
    event.set().await.unwrap();
    assert!(waiter.await.unwrap().unwrap());
    let barrier = broker.barrier(&name(&format!("{prefix}-barrier")), 2);
    let (one, two) = tokio::join!(barrier.wait_timeout(SOON), barrier.wait_timeout(SOON));
    assert_eq!(one.unwrap() + two.unwrap(), 1);
    let condition = broker.condition(&name(&format!("{prefix}-condition")));
    let waiting = tokio::spawn({
        let condition = condition.clone();
        async move {
            let permit = condition.acquire().await.unwrap();
            condition.wait_timeout(permit, SOON).await.unwrap().1
        }
    });
    eventually_async("the waiter is told", SOON, async || {
        let permit = condition.acquire().await.unwrap();
        condition.notify_all(&permit).await.unwrap();
        permit.release().await.unwrap();
        waiting.is_finished().then_some(())
    })
    .await;
    assert!(waiting.await.unwrap());
}

/// A pool maps over a worker process.
pub(crate) async fn a_pool_works(fleet: &Fleet) {
    let _worker = fleet.pool_worker(2).await;
    let pool = fleet.pool(2).await;
    let squares = timeout(LONG, pool.map(SQUARE, 0..100)).await.unwrap();
    let expected: Vec<i64> = (0..100).map(|x| x * x).collect();
    assert_eq!(squares.unwrap(), expected);
    pool.close();
    pool.join().await.unwrap();
}
