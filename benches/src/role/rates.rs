//! Producer, worker and consumer, and their plain counterparts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use pmq_broker::{Broker, Config, Name, Task};
use pmq_worker::child::Program;
use pmq_worker::{Worker, runner};
use tokio::sync::Notify;

use super::{Amount, Stage, WORKER, WorkerShape, runtime};
use crate::floor::{Floor, Plain, Results};
use crate::site::{done_name, queue_name};

/// Tasks of a call, as many as one of pmq's takes at most.
pub(crate) const BATCH: usize = 500;
/// Tasks that pmq's producer hands over at once, in five calls: while one is under way it makes the next.
pub(crate) const BULK: usize = 5 * BATCH;
/// The tasks' name.
const NOOP: &str = "noop";
/// How many lines are sent to the runner ahead.
const RUNNER_DEPTH: usize = 256;
const RUNNER: &str = include_str!("runner.py");

/// A task that does nothing.
pub(crate) fn task(body: &Bytes) -> Task {
    Task::handler(NOOP, body.clone())
}

/// A body of so many bytes, which are JSON.
pub(crate) fn body(size: usize) -> Bytes {
    vec![b'7'; size].into()
}

pub(super) fn produce(
    stage: Stage,
    config: &Config,
    amount: Amount,
    results: Results,
) -> Result<()> {
    let runtime = runtime()?;
    let broker = runtime.block_on(Broker::connect(config))?;
    let queue = broker.task_queue(&queue_name());
    runtime.block_on(queue.register())?;
    let body = body(amount.size);
    let mut clock = stage.ready()?;
    runtime.block_on(async {
        for start in (0..amount.tasks).step_by(BULK) {
            let count = BULK.min(amount.tasks - start);
            let tasks: Vec<Task> = (0..count)
                .map(|_| {
                    let mut task = task(&body);
                    task.keep = results != Results::Discarded;
                    task
                })
                .collect();
            queue.submit_many(&tasks).await?;
        }
        anyhow::Ok(())
    })?;
    clock.stop();
    clock.done()
}

pub(super) fn work(stage: Stage, config: &Config, shape: WorkerShape) -> Result<()> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let broker = Broker::connect(config).await?;
        let queue = broker.task_queue(&queue_name());
        let all = Arc::new(Notify::new());
        let worker = worker(&broker, shape, all.clone())?;
        let running = tokio::spawn(async move { worker.run(all.notified()).await });
        while broker.fleet().await?.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // It blocks, and the worker's roles go on in threads of their own.
        let mut clock = tokio::task::block_in_place(|| stage.ready())?;
        if shape.paused {
            queue.resume().await?;
        }
        running.await??;
        clock.stop();
        clock.done()
    })
}

fn worker(broker: &Broker, shape: WorkerShape, all: Arc<Notify>) -> Result<Worker> {
    let mut worker = Worker::new(broker.clone());
    WORKER.clone_into(&mut worker.options.name);
    worker.options.queues = vec![queue_name()];
    worker.options.slots = shape.slots;
    if shape.results == Results::Posted {
        worker.options.completions = Some(done_name());
    }
    if shape.runner {
        // It ends by the tasks that it has claimed, as nothing here sees them.
        worker.options.max_tasks = Some(shape.tasks);
        let config = runner_config();
        worker.handle_with_runner(&[NOOP.to_owned()], config)?;
        return Ok(worker);
    }
    let count = AtomicUsize::new(0);
    worker.handle_bytes(NOOP, move |_context, _body| {
        if count.fetch_add(1, Ordering::Relaxed) + 1 == shape.tasks {
            all.notify_one();
        }
        async { Ok(Bytes::new()) }
    });
    Ok(worker)
}

fn runner_config() -> runner::Config {
    runner::Config {
        depth: RUNNER_DEPTH,
        ..runner::Config::new(Program::new(["python3", "-c", RUNNER]))
    }
}

pub(super) fn consume(stage: Stage, config: &Config, amount: Amount) -> Result<()> {
    let runtime = runtime()?;
    let broker = runtime.block_on(Broker::connect(config))?;
    let queue = broker.task_queue(&queue_name());
    let done: Name = done_name();
    let mut clock = stage.ready()?;
    runtime.block_on(async {
        let mut consumer = queue.completions(&done);
        let mut got = 0;
        while got < amount.tasks {
            got += consumer.get_many(500, Duration::from_secs(10)).await?.len();
        }
        clock.stop();
        consumer.close().await?;
        clock.done()
    })
}

pub(super) fn floor_produce(
    stage: Stage,
    config: &Config,
    plain: Plain,
    amount: Amount,
) -> Result<()> {
    let mut floor = Floor::connect(config, plain, amount.size)?;
    let clock = stage.ready()?;
    for start in (0..amount.tasks).step_by(BATCH) {
        floor.submit(&Floor::ids(start..amount.tasks.min(start + BATCH)))?;
    }
    clock.done()
}

pub(super) struct FloorWorker {
    pub(super) plain: Plain,
    pub(super) amount: Amount,
    pub(super) batch: usize,
    pub(super) results: Results,
}

impl FloorWorker {
    pub(super) fn work(self, stage: Stage, config: &Config) -> Result<()> {
        let floor = Floor::connect(config, self.plain, self.amount.size)?;
        let mut floor = floor.with_results(self.results);
        let clock = stage.ready()?;
        let mut done = 0;
        while done < self.amount.tasks {
            done += floor.work_some(self.batch)?;
        }
        clock.done()
    }
}

pub(super) fn floor_consume(
    stage: Stage,
    config: &Config,
    plain: Plain,
    amount: Amount,
) -> Result<()> {
    let mut floor = Floor::connect(config, plain, amount.size)?;
    let clock = stage.ready()?;
    let mut got = 0;
    while got < amount.tasks {
        got += floor.consume_some()?.len();
    }
    clock.done()
}
