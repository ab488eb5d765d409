//! Producer, worker and consumer, as processes of the benchmark.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use pmq_broker::{Broker, Config, Name, Task, TaskQueue};
use pmq_worker::Worker;

/// Slots of the worker.
pub(crate) const SLOTS: usize = 512;
const CHUNK: usize = 256;
/// Bytes of an item of a plain queue.
pub(crate) const ITEM: usize = 100;

pub(crate) async fn queue(url: &str) -> Result<TaskQueue> {
    let broker = Broker::connect(&Config::url(url)).await?;
    Ok(broker.task_queue(&Name::new("bench")?))
}

pub(crate) fn done() -> Name {
    Name::new("done").expect("it keeps to the grammar")
}

fn task() -> Task {
    Task::handler("noop", Bytes::from_static(&[b'7'; 100]))
}

/// Submits tasks in chunks.
pub(crate) async fn produce(url: &str, tasks: usize) -> Result<()> {
    let queue = queue(url).await?;
    for start in (0..tasks).step_by(CHUNK) {
        let chunk: Vec<Task> = (start..tasks.min(start + CHUNK)).map(|_| task()).collect();
        queue.submit_many(&chunk).await?;
    }
    Ok(())
}

/// Works until this many tasks are done.
pub(crate) async fn work(url: &str, tasks: usize) -> Result<()> {
    let queue = queue(url).await?;
    let mut worker = Worker::new(queue.broker().clone());
    worker.options.queues = vec![queue.name().clone()];
    worker.options.slots = SLOTS;
    worker.options.completions = Some(done());
    let left = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let count = left.clone();
    worker.handle_bytes("noop", move |_context, _body| {
        count.add_permits(1);
        async { Ok(Bytes::new()) }
    });
    worker
        .run(async move { drop(left.acquire_many(tasks as u32).await) })
        .await?;
    Ok(())
}

/// Gets this many completions.
pub(crate) async fn consume(queue: &TaskQueue, tasks: usize) -> Result<()> {
    let mut consumer = queue.completions(&done());
    let mut got = 0;
    while got < tasks {
        got += consumer.get_many(500, Duration::from_secs(10)).await?.len();
    }
    consumer.close().await?;
    Ok(())
}

/// Submits one task and waits for its completion.
pub(crate) async fn round_trip(
    queue: &TaskQueue,
    consumer: &mut pmq_broker::task_queue::Consumer,
) -> Result<()> {
    queue.submit(&task()).await?;
    consumer.get(Duration::from_secs(10)).await?;
    Ok(())
}

/// Puts items into a plain queue and gets them, a batch at a time.
pub(crate) async fn put_and_get(url: &str, items: usize, batch: usize) -> Result<()> {
    let broker = Broker::connect(&Config::url(url)).await?;
    let queue = broker.raw_queue(&Name::new("bench")?);
    let item = Bytes::from(vec![b'x'; ITEM]);
    let mut got = 0;
    while got < items {
        queue.put_many(vec![item.clone(); batch]).await?;
        got += queue.get_many(batch).await?.len();
    }
    Ok(())
}
