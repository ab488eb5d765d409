//! Locks: taking one that is free, beside a plain round trip; handing one over among waiters, beside a plain blocking pop.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use pmq_broker::{Broker, Config, Lock, Name};

use super::{Stage, micros, runtime};
use crate::client;
use crate::floor::Keys;

const WAITERS: usize = 16;
/// Each has connections of its own, as processes have.
const BROKERS: usize = 4;

pub(super) fn uncontended(stage: Stage, config: &Config, rounds: usize) -> Result<()> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let broker = Broker::connect(config).await?;
        let lock = broker.lock(&Name::new("free")?);
        let mut connection = client::connect_async(config).await?;
        let mut clock = tokio::task::block_in_place(|| stage.ready())?;
        let (mut pmq, mut floor) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let start = Instant::now();
            lock.acquire().await?.release().await?;
            pmq.push(micros(start));
            let start = Instant::now();
            redis::cmd("PING").exec_async(&mut connection).await?;
            floor.push(micros(start));
        }
        clock.samples("pmq", pmq);
        clock.samples("floor", floor);
        clock.done()
    })
}

type Released = Arc<Mutex<Option<Instant>>>;

pub(super) fn contended(stage: Stage, config: &Config, rounds: usize) -> Result<()> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut locks = Vec::new();
        for _ in 0..BROKERS {
            let broker = Broker::connect(config).await?;
            let lock = broker.lock(&Name::new("busy")?);
            locks.extend(vec![lock; WAITERS / BROKERS]);
        }
        let mut clock = tokio::task::block_in_place(|| stage.ready())?;
        let released = Released::default();
        let tasks: Vec<_> = locks
            .into_iter()
            .map(|lock| tokio::spawn(take_turns(lock, released.clone(), rounds / WAITERS)))
            .collect();
        let mut samples = Vec::new();
        for task in tasks {
            samples.extend(task.await??);
        }
        clock.samples("pmq", samples);
        clock.samples("floor", hand_over(config, rounds).await?);
        clock.done()
    })
}

async fn take_turns(lock: Lock, released: Released, rounds: usize) -> Result<Vec<f64>> {
    let mut samples = Vec::new();
    let released = || released.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..rounds {
        let permit = lock.acquire().await?;
        if let Some(start) = released().take() {
            samples.push(micros(start));
        }
        *released() = Some(Instant::now());
        permit.release().await?;
    }
    Ok(samples)
}

/// From one plain connection to another that blocks.
async fn hand_over(config: &Config, rounds: usize) -> Result<Vec<f64>> {
    let mut holder = client::connect_async(config).await?;
    let mut waiter = client::connect_async(config).await?;
    let key = Keys::new(config).part("lock");
    let mut samples = Vec::new();
    for _ in 0..rounds {
        let mut blocking = redis::cmd("BLPOP");
        blocking.arg(&key).arg(5);
        let pop = tokio::spawn(async move {
            let popped = blocking.exec_async(&mut waiter).await;
            (popped, waiter)
        });
        // It blocks by the time that this has gone to the server and back.
        redis::cmd("PING").exec_async(&mut holder).await?;
        let start = Instant::now();
        let mut push = redis::cmd("RPUSH");
        push.arg(&key).arg(1);
        push.exec_async(&mut holder).await?;
        let (popped, back) = pop.await?;
        popped?;
        samples.push(micros(start));
        waiter = back;
    }
    Ok(samples)
}
