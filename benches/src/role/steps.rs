//! Submits, claims and finishes in turn, each timed by itself.

use std::time::Instant;

use anyhow::{Result, ensure};
use pmq_broker::task_queue::{Ask, DEFAULT_LEASE, Finish};
use pmq_broker::{Broker, Config, Incarnation, Task};

use super::rates::{body, task};
use super::{Stage, micros, single_runtime};
use crate::floor::{Floor, Plain};
use crate::site::{finish, queue_name};

const SIZE: usize = 100;

pub(super) fn steps(stage: Stage, config: &Config, rounds: usize, batch: usize) -> Result<()> {
    let runtime = single_runtime()?;
    let broker = runtime.block_on(Broker::connect(config))?;
    let queue = broker.task_queue(&queue_name());
    let mut claimer = queue
        .first()
        .claimer(Incarnation::new(), DEFAULT_LEASE, None);
    let (mut submits, mut claims) = (Vec::new(), Vec::new());
    let mut clock = stage.ready()?;
    runtime.block_on(async {
        let body = body(SIZE);
        for _ in 0..rounds {
            let tasks: Vec<Task> = (0..batch).map(|_| task(&body)).collect();
            let start = Instant::now();
            queue.submit_many(&tasks).await?;
            submits.push(micros(start));
            let ask = Ask {
                n: batch,
                suspect: false,
                wait: false,
            };
            let start = Instant::now();
            let claimed = claimer.get_nowait(ask).await?.tasks;
            claims.push(micros(start));
            ensure!(claimed.len() == batch, "a claim brought too few tasks");
            let finishes: Vec<Finish> = claimed
                .iter()
                .map(|claim| finish(claim, queue.first()))
                .collect();
            queue.first().finish(&finishes).await?;
        }
        anyhow::Ok(())
    })?;
    clock.samples("submit", submits);
    clock.samples("claim", claims);
    clock.done()
}

pub(super) fn floor_steps(
    stage: Stage,
    config: &Config,
    rounds: usize,
    batch: usize,
) -> Result<()> {
    /// Beyond the numbers of any backlog.
    const FIRST: usize = 1 << 40;
    let mut floor = Floor::connect(config, Plain::Same, SIZE)?;
    let (mut submits, mut claims) = (Vec::new(), Vec::new());
    let mut clock = stage.ready()?;
    for round in 0..rounds {
        let first = FIRST + round * batch;
        let ids = Floor::ids(first..first + batch);
        let start = Instant::now();
        floor.submit(&ids)?;
        submits.push(micros(start));
        let start = Instant::now();
        let ids = floor.claim(batch)?;
        claims.push(micros(start));
        floor.finish(&ids)?;
    }
    clock.samples("submit", submits);
    clock.samples("claim", claims);
    clock.done()
}
