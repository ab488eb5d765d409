//! Tasks at a given rate, whatever becomes of them: how long each takes from when it was due to its completion in hand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pmq_broker::{Broker, Config, Task, TaskId};

use super::rates::{body, task};
use super::{Amount, Stage, micros, runtime};
use crate::floor::{Floor, Plain};
use crate::site::{done_name, queue_name};

/// Tasks that are due within this time are submitted together.
const TICK: Duration = Duration::from_millis(1);

/// How many tasks are due after `elapsed`.
fn due(amount: Amount, rate: f64, elapsed: Duration) -> usize {
    let due = (rate * elapsed.as_secs_f64()) as usize;
    due.min(amount.tasks)
}

/// When task `n` was due.
fn due_at(start: Instant, rate: f64, n: usize) -> Instant {
    start + Duration::from_secs_f64(n as f64 / rate)
}

type Numbers = Arc<Mutex<HashMap<TaskId, usize>>>;

pub(super) fn load(stage: Stage, config: &Config, amount: Amount, rate: f64) -> Result<()> {
    let runtime = runtime()?;
    let broker = runtime.block_on(Broker::connect(config))?;
    let queue = broker.task_queue(&queue_name());
    runtime.block_on(queue.register())?;
    let mut clock = stage.ready()?;
    let start = Instant::now();
    let numbers = Numbers::default();
    runtime.block_on(async {
        let submitting = tokio::spawn({
            let (queue, numbers) = (queue.clone(), numbers.clone());
            async move { submit(&queue, &numbers, amount, rate).await }
        });
        let mut consumer = queue.completions(&done_name());
        let mut samples = Vec::with_capacity(amount.tasks);
        while samples.len() < amount.tasks {
            let got = consumer.get_many(500, Duration::from_secs(10)).await?;
            let mut numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
            for completion in &got {
                let number = numbers.remove(&completion.id);
                let number = number.context("a completion of an unknown task")?;
                samples.push(micros(due_at(start, rate, number)));
            }
        }
        clock.stop();
        clock.samples("latency", samples);
        submitting.await??;
        consumer.close().await?;
        clock.done()
    })
}

async fn submit(
    queue: &pmq_broker::TaskQueue,
    numbers: &Numbers,
    amount: Amount,
    rate: f64,
) -> Result<()> {
    let (body, start, mut sent) = (body(amount.size), Instant::now(), 0);
    let mut ticks = tokio::time::interval(TICK);
    while sent < amount.tasks {
        ticks.tick().await;
        let due = due(amount, rate, start.elapsed());
        let tasks: Vec<Task> = (sent..due).map(|_| task(&body)).collect();
        if !tasks.is_empty() {
            remember(numbers, tasks.iter().map(|task| task.id).zip(sent..due));
            queue.submit_many(&tasks).await?;
        }
        sent = due;
    }
    Ok(())
}

fn remember(numbers: &Numbers, new: impl Iterator<Item = (TaskId, usize)>) {
    let mut numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
    numbers.extend(new);
}

pub(super) fn floor_load(stage: Stage, config: &Config, amount: Amount, rate: f64) -> Result<()> {
    let mut producer = Floor::connect(config, Plain::Same, amount.size)?;
    let mut consumer = Floor::connect(config, Plain::Same, amount.size)?;
    let mut clock = stage.ready()?;
    let start = Instant::now();
    let mut samples = Vec::with_capacity(amount.tasks);
    std::thread::scope(|scope| {
        let submitting = scope.spawn(move || floor_submit(&mut producer, amount, rate));
        while samples.len() < amount.tasks {
            for completion in consumer.consume_some()? {
                let number = Floor::number_of(&completion);
                samples.push(micros(due_at(start, rate, number)));
            }
        }
        submitting
            .join()
            .map_err(|_| anyhow::anyhow!("the producer panicked"))?
    })?;
    clock.stop();
    clock.samples("latency", samples);
    clock.done()
}

fn floor_submit(producer: &mut Floor, amount: Amount, rate: f64) -> Result<()> {
    let (start, mut sent) = (Instant::now(), 0);
    while sent < amount.tasks {
        std::thread::sleep(TICK);
        let due = due(amount, rate, start.elapsed());
        if due > sent {
            producer.submit(&Floor::ids(sent..due))?;
        }
        sent = due;
    }
    Ok(())
}
