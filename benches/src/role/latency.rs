//! One task at a time: round trips and single submits, in turn with plain commands, so that both meet the machine in the
//! same state.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pmq_broker::task_queue::Consumer;
use pmq_broker::{Broker, Config, TaskQueue};

use super::rates::{body, task};
use super::{Stage, micros, runtime, single_runtime};
use crate::floor::{Floor, Plain};
use crate::site::{done_name, queue_name};

/// Bytes of a body.
const SIZE: usize = 100;
/// Rounds before the first that counts.
const WARM_UP: usize = 50;

/// Plain clients with as many sockets as pmq's: one for commands, one that blocks.
struct PlainClient {
    control: Floor,
    waiting: Floor,
    next: usize,
}

impl PlainClient {
    fn connect(config: &Config) -> Result<Self> {
        Ok(Self {
            control: Floor::connect(config, Plain::Same, SIZE)?,
            waiting: Floor::connect(config, Plain::Same, SIZE)?,
            next: 0,
        })
    }

    fn submit(&mut self) -> Result<()> {
        self.next += 1;
        self.control.submit(&Floor::ids(self.next..self.next + 1))
    }

    fn round_trip(&mut self) -> Result<()> {
        self.submit()?;
        self.waiting.wait("wake.done")?;
        while self.control.take()?.is_empty() {}
        Ok(())
    }

    fn ping(&mut self) -> Result<()> {
        Ok(redis::cmd("PING").exec(&mut self.control.connection)?)
    }
}

/// Times by what they are of, one a round.
#[derive(Default)]
struct Times([Vec<f64>; 4]);

impl Times {
    fn time<T>(&mut self, of: usize, round: usize, act: impl FnOnce() -> Result<T>) -> Result<()> {
        let start = Instant::now();
        act()?;
        if round >= WARM_UP {
            self.0[of].push(micros(start));
        }
        Ok(())
    }
}

async fn round_trip(queue: &TaskQueue, consumer: &mut Consumer) -> Result<()> {
    queue.submit(&task(&body(SIZE))).await?;
    let got = consumer.get(Duration::from_secs(10)).await?;
    got.context("a completion is missing").map(drop)
}

pub(super) fn echo(stage: Stage, config: &Config, plain: Plain) -> Result<()> {
    let mut floor = Floor::connect(config, plain, SIZE)?;
    let _clock = stage.ready()?;
    loop {
        floor.echo()?;
    }
}

pub(super) fn round_trips(stage: Stage, config: &Config, rounds: usize) -> Result<()> {
    let runtime = single_runtime()?;
    let broker = runtime.block_on(Broker::connect(config))?;
    let queue = broker.task_queue(&queue_name());
    let mut consumer = queue.completions(&done_name());
    let (mut plain, mut times) = (PlainClient::connect(config)?, Times::default());
    let mut clock = stage.ready()?;
    for round in 0..rounds + WARM_UP {
        times.time(0, round, || {
            runtime.block_on(round_trip(&queue, &mut consumer))
        })?;
        times.time(1, round, || plain.round_trip())?;
        times.time(2, round, || plain.ping())?;
    }
    for (of, samples) in ["pmq", "floor", "ping"].into_iter().zip(times.0) {
        clock.samples(of, samples);
    }
    runtime.block_on(consumer.close())?;
    clock.done()
}

pub(super) fn single_submits(stage: Stage, config: &Config, rounds: usize) -> Result<()> {
    let runtime = single_runtime()?;
    let broker = runtime.block_on(Broker::connect(config))?;
    let queue = broker.task_queue(&queue_name());
    let (mut plain, mut times) = (PlainClient::connect(config)?, Times::default());
    let mut clock = stage.ready()?;
    for round in 0..rounds + WARM_UP {
        let task = task(&body(SIZE));
        times.time(0, round, || Ok(runtime.block_on(queue.submit(&task))?))?;
        times.time(1, round, || plain.submit())?;
        times.time(2, round, || plain.ping())?;
        times.time(3, round, || Ok(runtime.block_on(broker.ping())?))?;
    }
    for (of, samples) in ["pmq", "floor", "ping", "own ping"]
        .into_iter()
        .zip(times.0)
    {
        clock.samples(of, samples);
    }
    clock.done()
}

/// Each place submits one task after another, as handlers of a web server do.
pub(super) fn concurrent_submits(
    stage: Stage,
    config: &Config,
    places: usize,
    tasks: usize,
) -> Result<()> {
    let runtime = runtime()?;
    let broker = runtime.block_on(Broker::connect(config))?;
    let queue = broker.task_queue(&queue_name());
    runtime.block_on(queue.register())?;
    let mut clock = stage.ready()?;
    runtime.block_on(async {
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..places {
            let (queue, body) = (queue.clone(), body(SIZE));
            all.spawn(async move {
                for _ in 0..tasks / places {
                    queue.submit(&task(&body)).await?;
                }
                Ok::<_, pmq_broker::Error>(())
            });
        }
        while let Some(ended) = all.join_next().await {
            ended??;
        }
        clock.stop();
        clock.done()
    })
}
