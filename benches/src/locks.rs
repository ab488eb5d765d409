//! Locks: taking one that is free, beside a raw round trip; and handing one over among waiters, beside a raw blocking pop.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use pmq_broker::{Broker, Config, Lock, Name};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;

use crate::measure::median;
use crate::runtime;
use crate::table::Figure;

const ROUNDS: usize = 5000;
const WAITERS: usize = 16;
/// Each has connections of its own, as processes have.
const BROKERS: usize = 4;

/// All figures of locks, on this server.
pub(crate) fn all(url: &str) -> Result<Vec<Figure>> {
    let runtime = runtime()?;
    Ok(vec![
        runtime.block_on(uncontended(url))?,
        runtime.block_on(contended(url))?,
    ])
}

async fn lock(url: &str, name: &str) -> Result<Lock> {
    let broker = Broker::connect(&Config::url(url)).await?;
    Ok(broker.lock(&Name::new(name)?))
}

async fn raw(url: &str) -> Result<MultiplexedConnection> {
    let client = redis::Client::open(url)?;
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(client
        .get_multiplexed_async_connection_with_config(&config)
        .await?)
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

/// In turn, so that both meet the machine in the same state.
async fn uncontended(url: &str) -> Result<Figure> {
    let (lock, mut connection) = (lock(url, "free").await?, raw(url).await?);
    let (mut pmq, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        lock.acquire().await?.release().await?;
        pmq.push(micros(start));
        let start = Instant::now();
        redis::cmd("PING").exec_async(&mut connection).await?;
        floor.push(micros(start));
    }
    Ok(Figure {
        name: "lock_us",
        unit: "us, p50: acquire + release, beside one round trip",
        pmq: median(pmq),
        floor: Some(median(floor)),
    })
}

/// From the call that releases it to the next holder's answer.
async fn contended(url: &str) -> Result<Figure> {
    let released = Arc::new(Mutex::new(None));
    let mut waiters = Vec::new();
    for waiter in 0..WAITERS {
        let lock = match waiter % (WAITERS / BROKERS) {
            0 => lock(url, "busy").await?,
            _ => Clone::clone(waiters_lock(&waiters)),
        };
        waiters.push((lock, released.clone()));
    }
    let tasks: Vec<_> = waiters
        .into_iter()
        .map(|(lock, released)| tokio::spawn(take_turns(lock, released)))
        .collect();
    let mut samples = Vec::new();
    for task in tasks {
        samples.extend(task.await??);
    }
    Ok(Figure {
        name: "lock_hand_over_us",
        unit: "us, p50, 16 waiters, beside RPUSH to BLPOP",
        pmq: median(samples),
        floor: Some(median(hand_over(url).await?)),
    })
}

type Released = Arc<Mutex<Option<Instant>>>;

fn waiters_lock(waiters: &[(Lock, Released)]) -> &Lock {
    &waiters.last().expect("the first has made one").0
}

async fn take_turns(lock: Lock, released: Released) -> Result<Vec<f64>> {
    let mut samples = Vec::new();
    let released = || released.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..ROUNDS / WAITERS {
        let permit = lock.acquire().await?;
        if let Some(start) = released().take() {
            samples.push(micros(start));
        }
        *released() = Some(Instant::now());
        permit.release().await?;
    }
    Ok(samples)
}

/// The same from one raw connection to another that blocks.
async fn hand_over(url: &str) -> Result<Vec<f64>> {
    let (mut holder, mut waiter) = (raw(url).await?, raw(url).await?);
    let mut samples = Vec::new();
    for _ in 0..ROUNDS {
        let pop = tokio::spawn(async move {
            let popped = redis::cmd("BLPOP")
                .arg("floor:lock")
                .arg("5")
                .exec_async(&mut waiter)
                .await;
            (popped, waiter)
        });
        // It blocks by the time that this has gone to the server and back.
        redis::cmd("PING").exec_async(&mut holder).await?;
        let start = Instant::now();
        redis::cmd("RPUSH")
            .arg("floor:lock")
            .arg("1")
            .exec_async(&mut holder)
            .await?;
        let (popped, back) = pop.await?;
        popped?;
        samples.push(micros(start));
        waiter = back;
    }
    Ok(samples)
}
