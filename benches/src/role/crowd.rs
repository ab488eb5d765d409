//! Many workers in one process, each with a connection of its own, as many processes on many hosts would have.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use pmq_broker::task_queue::{Ask, Claimer, DEFAULT_LEASE, Finish, Shard, Waiter};
use pmq_broker::{Broker, Config, Incarnation, TaskQueue};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

use super::rates::{body, task};
use super::{Stage, runtime};
use crate::floor::{Floor, Plain};
use crate::site::{done_name, finish, queue_name};

/// How long a worker waits for a token; longer than any measurement.
const LONGEST: Duration = Duration::from_secs(60);
/// Tasks that a worker of a swarm claims at once.
const AT_ONCE: usize = 16;
const SIZE: usize = 100;

/// Lets this process have as many sockets as it may.
fn raise_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("could not raise the limit of open files")
}

/// Claims up to `n` tasks and ends them; answers how many, and whether to wait for a token then.
async fn work_some(claimer: &mut Claimer, n: usize) -> Result<(usize, bool)> {
    let ask = Ask {
        n,
        suspect: true,
        wait: true,
    };
    let claimed = claimer.get_nowait(ask).await?;
    let finishes: Vec<Finish> = claimed
        .tasks
        .iter()
        .map(|claim| finish(claim, claimer.shard()))
        .collect();
    claimer.shard().finish(&finishes).await?;
    Ok((finishes.len(), claimed.wait != Some(Duration::ZERO)))
}

fn claimer(shard: &Shard) -> Claimer {
    shard.claimer(Incarnation::new(), DEFAULT_LEASE, Some(&done_name()))
}

/// A worker of one slot: it claims where a token says so, until nothing more is ready there, then waits again.
async fn idle_worker(queue: TaskQueue) -> Result<()> {
    let shards = queue.opened();
    let mut waiter = Waiter::for_tasks(shards, LONGEST);
    let mut claimers: Vec<Claimer> = shards.iter().map(claimer).collect();
    for claimer in &mut claimers {
        work_some(claimer, 1).await?;
    }
    loop {
        if let Some(token) = waiter.wait(LONGEST).await? {
            while !work_some(&mut claimers[token], 1).await?.1 {}
        }
    }
}

/// Idle workers, on all shards of the queue.
pub(super) fn idle(stage: Stage, config: &Config, workers: usize) -> Result<()> {
    raise_limit()?;
    let runtime = runtime()?;
    let broker = runtime.block_on(Broker::connect(config))?;
    let queue = broker.task_queue(&queue_name());
    runtime.block_on(queue.open())?;
    let mut all: JoinSet<Result<()>> = JoinSet::new();
    for _ in 0..workers {
        all.spawn_on(idle_worker(queue.clone()), runtime.handle());
    }
    let blocked = async {
        let mut connection = crate::client::connect_async(config).await?;
        loop {
            let info: String = redis::cmd("INFO")
                .arg("clients")
                .query_async(&mut connection)
                .await?;
            let line = info
                .lines()
                .find_map(|l| l.strip_prefix("blocked_clients:"));
            if line.and_then(|l| l.trim().parse().ok()) >= Some(workers) {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    runtime.block_on(async { tokio::time::timeout(LONGEST, blocked).await })??;
    let _clock = stage.ready()?;
    match runtime.block_on(all.join_next()) {
        Some(ended) => ended?,
        None => Ok(()),
    }
}

/// One task after another, each submitted when the last one's completion is in hand. It is popped by a plain command, so
/// that the functions and waits that the server counts are those of the workers.
pub(super) fn one_by_one(stage: Stage, config: &Config, tasks: usize) -> Result<()> {
    let runtime = runtime()?;
    let broker = runtime.block_on(Broker::connect(config))?;
    let queue = broker.task_queue(&queue_name());
    let shards = runtime.block_on(queue.open())?.iter();
    let done: Vec<String> = shards
        .map(|shard| shard.keys().done(&done_name()))
        .collect();
    let mut connection = runtime.block_on(crate::client::connect_async(config))?;
    let mut clock = stage.ready()?;
    let samples = runtime.block_on(async {
        let mut samples = Vec::with_capacity(tasks);
        for _ in 0..tasks {
            let start = std::time::Instant::now();
            queue.submit(&task(&body(SIZE))).await?;
            redis::cmd("BLMPOP")
                .arg(LONGEST.as_secs())
                .arg(done.len())
                .arg(&done)
                .arg("LEFT")
                .exec_async(&mut connection)
                .await?;
            samples.push(super::micros(start));
        }
        anyhow::Ok(samples)
    })?;
    clock.stop();
    clock.samples("pmq", samples);
    clock.done()
}

/// Workers that drain the queue together.
pub(super) fn swarm(stage: Stage, config: &Config, workers: usize, tasks: usize) -> Result<()> {
    raise_limit()?;
    let runtime = runtime()?;
    let broker = runtime.block_on(Broker::connect(config))?;
    let mut claimers = Vec::new();
    for _ in 0..workers {
        let broker = broker.apart();
        runtime.block_on(broker.ping())?;
        claimers.push(claimer(broker.task_queue(&queue_name()).first()));
    }
    let mut clock = stage.ready()?;
    runtime.block_on(async {
        let mut all: JoinSet<Result<usize>> = JoinSet::new();
        for mut claimer in claimers {
            all.spawn(async move {
                let mut done = 0;
                loop {
                    match work_some(&mut claimer, AT_ONCE).await?.0 {
                        0 => return Ok(done),
                        some => done += some,
                    }
                }
            });
        }
        let mut done = 0;
        while let Some(some) = all.join_next().await {
            done += some??;
        }
        clock.stop();
        anyhow::ensure!(done == tasks, "{done} tasks of {tasks} were run");
        clock.done()
    })
}

/// As many plain connections, in two threads as pmq's, each of which uses its own in turn.
pub(super) fn floor_swarm(
    stage: Stage,
    config: &Config,
    workers: usize,
    tasks: usize,
) -> Result<()> {
    raise_limit()?;
    let mut floors = Vec::new();
    for _ in 0..workers {
        floors.push(Floor::connect(config, Plain::Same, SIZE)?);
    }
    let clock = stage.ready()?;
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let halves = floors.chunks_mut(workers.div_ceil(2));
        let threads: Vec<_> = halves
            .map(|half| scope.spawn(|| floor_work(half, tasks, &done)))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            let ended = thread.join();
            ended.map_err(|_| anyhow::anyhow!("a thread panicked"))?
        })
    })?;
    clock.done()
}

fn floor_work(floors: &mut [Floor], tasks: usize, done: &AtomicUsize) -> Result<()> {
    loop {
        for floor in &mut *floors {
            if done.load(Ordering::Relaxed) >= tasks {
                return Ok(());
            }
            let ids = floor.claim(AT_ONCE)?;
            if !ids.is_empty() {
                floor.finish(&ids)?;
                done.fetch_add(ids.len(), Ordering::Relaxed);
            }
        }
    }
}
