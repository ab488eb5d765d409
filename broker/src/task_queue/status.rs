//! inspect: how many tasks are in each state.

use std::collections::BTreeMap;

use redis::Value;

use super::TaskQueue;
use crate::broker::PATIENCE;
use crate::error::Result;
use crate::reply::{self, odd};

/// A queue's tasks by state, and its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Settings and bookkeeping, as they stand in Redis.
    pub meta: BTreeMap<String, String>,
}

impl TaskQueue {
    /// Counts the queue's tasks by state, all at one moment.
    pub async fn status(&self) -> Result<QueueStatus> {
        let doing = "inspect";
        let mut items = reply::items(
            self.broker
                .control()
                .call(&self.call("inspect"), PATIENCE)
                .await?,
            doing,
        )?
        .into_iter();
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
        Ok(QueueStatus {
            ready: tasks.saturating_sub(running + scheduled + dead),
            scheduled,
            running,
            dead,
            suspects,
            paused: meta.contains_key("paused"),
            completions,
            meta,
        })
    }
}

impl TaskQueue {
    /// Whether no worker and no client has a live lease on the queue, by the server's clock.
    pub async fn is_deserted(&self) -> Result<bool> {
        let doing = "count the live leases";
        let mut command = redis::cmd("ZCOUNT");
        command
            .arg(self.keys.workers())
            .arg(self.broker.server_time_ms().await?)
            .arg("+inf");
        let answer = self
            .broker
            .control()
            .send(&command, doing, PATIENCE)
            .await?;
        Ok(reply::number(answer, doing)? == 0)
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
