//! inspect: how many tasks are in each state.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use redis::Value;

use super::shards::all;
use super::{Shard, TaskQueue};
use crate::broker::PATIENCE;
use crate::error::Result;
use crate::reply::{self, odd};

/// Settings of which each shard has its part.
const PARTED: [&str; 4] = ["maxsize", "results_max", "completions_max", "logs_max"];

/// A queue's tasks by state, and its settings: the sum of its shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueStatus {
    /// Tasks that wait for a worker.
    pub ready: u64,
    /// Tasks that become ready later.
    pub scheduled: u64,
    /// Tasks that workers hold.
    pub running: u64,
    /// Dead letters.
    pub dead: u64,
    /// Ready tasks that workers have died under.
    pub suspects: u64,
    /// Whether claims answer empty.
    pub paused: bool,
    /// How many completions wait on each completion queue.
    pub completions: BTreeMap<String, u64>,
    /// Settings of the queue, and the bookkeeping of its first shard, as they stand in Redis.
    pub meta: BTreeMap<String, String>,
    /// Each shard, by number; `None` for one that did not answer, which the sums then leave out.
    pub shards: Vec<Option<ShardStatus>>,
}

/// One shard's tasks by state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardStatus {
    /// Tasks that wait for a worker.
    pub ready: u64,
    /// Tasks that become ready later.
    pub scheduled: u64,
    /// Tasks that workers hold.
    pub running: u64,
    /// Dead letters.
    pub dead: u64,
    /// Ready tasks that workers have died under.
    pub suspects: u64,
    /// How many completions wait on each completion queue.
    pub completions: BTreeMap<String, u64>,
    /// Settings and bookkeeping, as they stand in Redis.
    pub meta: BTreeMap<String, String>,
}

impl TaskQueue {
    /// Counts the queue's tasks by state, those of each shard all at one moment.
    ///
    /// A shard that does not answer within 10 s is left out; it is an error only where none does, or where this process
    /// does not know yet how many there are and the first does not say.
    pub async fn status(&self) -> Result<QueueStatus> {
        // Where the first shard does not answer, what is known must do.
        let _ = self.follow().await;
        let mut answers = join_all(self.shards().await?.iter().map(Shard::status)).await;
        if answers.iter().all(Result::is_err) {
            answers.swap_remove(0)?;
        }
        Ok(sum(answers.into_iter().map(Result::ok).collect()))
    }

    /// Whether no worker and no client has a live lease on the queue, by the server's clock.
    pub async fn is_deserted(&self) -> Result<bool> {
        let now_ms = self.broker().server_time_ms().await?;
        let shards = self.shards().await?.iter();
        let leases = all(shards.map(|shard| shard.count_leases(now_ms))).await?;
        Ok(leases.iter().all(|leases| *leases == 0))
    }
}

fn sum(shards: Vec<Option<ShardStatus>>) -> QueueStatus {
    let mut status = QueueStatus::default();
    for shard in shards.iter().flatten() {
        status.ready += shard.ready;
        status.scheduled += shard.scheduled;
        status.running += shard.running;
        status.dead += shard.dead;
        status.suspects += shard.suspects;
        status.paused |= shard.meta.contains_key("paused");
        for (name, count) in &shard.completions {
            *status.completions.entry(name.clone()).or_default() += count;
        }
    }
    if let Some(first) = shards.iter().flatten().next() {
        status.meta.clone_from(&first.meta);
    }
    for name in PARTED {
        let parts = shards.iter().flatten().map(|shard| shard.meta.get(name));
        let parts: Vec<u64> = parts.filter_map(|part| part?.parse().ok()).collect();
        if !parts.is_empty() {
            let whole = parts.iter().sum::<u64>();
            status.meta.insert(name.to_owned(), whole.to_string());
        }
    }
    status.shards = shards;
    status
}

impl Shard {
    pub(super) async fn status(&self) -> Result<ShardStatus> {
        let doing = "inspect";
        let answer = self
            .broker
            .control()
            .call(&self.call("inspect"), PATIENCE)
            .await?;
        let mut items = reply::items(answer, doing)?.into_iter();
        let mut next = || items.next().ok_or_else(|| odd(doing));
        let [tasks, running, scheduled, dead, suspects, _rows] = {
            let mut counts = [0; 6];
            for count in &mut counts {
                *count = reply::number(next()?, doing)?;
            }
            counts
        };
        let meta = pairs(next()?, |value| {
            Ok(String::from_utf8_lossy(&reply::bytes(value, doing)?).into_owned())
        })?;
        let completions = pairs(next()?, |value| reply::number(value, doing))?;
        Ok(ShardStatus {
            ready: tasks.saturating_sub(running + scheduled + dead),
            scheduled,
            running,
            dead,
            suspects,
            completions,
            meta,
        })
    }

    async fn count_leases(&self, now_ms: u64) -> Result<u64> {
        let doing = "count the live leases";
        let mut command = redis::cmd("ZCOUNT");
        command.arg(self.keys().workers()).arg(now_ms).arg("+inf");
        let control = self.broker.control();
        reply::number(control.send(&command, doing, PATIENCE).await?, doing)
    }
}

fn pairs<T>(value: Value, read: impl Fn(Value) -> Result<T>) -> Result<BTreeMap<String, T>> {
    let mut items = reply::items(value, "inspect")?.into_iter();
    let mut map = BTreeMap::new();
    while let (Some(name), Some(value)) = (items.next(), items.next()) {
        map.insert(reply::text(name, "inspect")?, read(value)?);
    }
    Ok(map)
}
