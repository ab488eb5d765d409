//! configure, purge, requeue, `purge_dead`: what operators do to a queue.

use std::time::Duration;

use super::{CHUNK, LOOKUP_CHUNK, TaskQueue};
use crate::broker::PATIENCE;
use crate::error::Result;
use crate::functions::Call;
use crate::ids::{Name, TaskId};
use crate::reply::{self, odd};

/// Settings of a queue to write; `None` leaves a setting as it is.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whether claims answer empty.
    pub paused: Option<bool>,
    /// How many tasks may wait, ready and scheduled; 0 for no limit.
    pub maxsize: Option<u64>,
    /// How long records of ended tasks are kept; 1 hour unless set, at least 1 s.
    pub retention: Option<Duration>,
    /// How many records are kept at most; 1,000,000 unless set.
    pub results_max: Option<u64>,
    /// The completion queue of tasks whose submitter and worker name none.
    pub completions: Option<Name>,
    /// How many completions a completion queue holds before submit answers full; 1,000,000 unless set.
    pub completions_max: Option<u64>,
    /// How many bytes of the output of one process are kept; 4 MiB unless set.
    pub log_max: Option<u64>,
    /// How many bytes of the output of all processes are kept; 256 MiB unless set.
    pub logs_max: Option<u64>,
}

impl TaskQueue {
    /// Writes settings.
    pub async fn configure(&self, settings: &Settings) -> Result<()> {
        let number = |name, value: Option<u64>| value.map(|v| (name, v.to_string()));
        let pairs = [
            settings.paused.map(|paused| {
                (
                    "paused",
                    if paused {
                        "1".to_owned()
                    } else {
                        String::new()
                    },
                )
            }),
            settings.maxsize.map(|max| {
                (
                    "maxsize",
                    if max == 0 {
                        String::new()
                    } else {
                        max.to_string()
                    },
                )
            }),
            settings
                .retention
                .map(|r| ("retention", r.as_millis().max(1000).to_string())),
            number("results_max", settings.results_max),
            settings
                .completions
                .as_ref()
                .map(|name| ("completions", name.to_string())),
            number("completions_max", settings.completions_max),
            number("log_max", settings.log_max),
            number("logs_max", settings.logs_max),
        ];
        let call = pairs
            .into_iter()
            .flatten()
            .fold(self.call("configure"), |call, (name, value)| {
                call.arg(name).arg(value)
            });
        self.broker.register(&self.name).await?;
        self.broker.control().call(&call, PATIENCE).await.map(drop)
    }

    /// Lets claims answer empty until [`TaskQueue::resume`]; what runs goes on.
    pub async fn pause(&self) -> Result<()> {
        self.configure(&Settings {
            paused: Some(true),
            ..Settings::default()
        })
        .await
    }

    /// Lets workers claim again, and wakes them.
    pub async fn resume(&self) -> Result<()> {
        self.configure(&Settings {
            paused: Some(false),
            ..Settings::default()
        })
        .await
    }

    /// Cancels tasks that wait, ready or scheduled, one call's worth: how many, and whether more wait.
    pub async fn purge_some(&self) -> Result<(u64, bool)> {
        let answer = self
            .broker
            .control()
            .call(&self.call("purge").arg(CHUNK), PATIENCE)
            .await?;
        let mut items = reply::items(answer, "purge")?.into_iter();
        let (Some(count), Some(more)) = (items.next(), items.next()) else {
            return Err(odd("purge"));
        };
        Ok((
            reply::number(count, "purge")?,
            reply::text(more, "purge")? == "1",
        ))
    }

    /// Deletes the queue with all that is in it, and takes it off the list of queues: for a queue of one's own,
    /// once its workers have stopped. Whoever still uses it begins a new one under the same name.
    pub async fn delete(&self) -> Result<()> {
        let status = self.status().await?;
        let buckets = status.meta.get("buckets").map_or("", String::as_str);
        let buckets = buckets.split(',').filter(|bucket| !bucket.is_empty());
        let mut command = redis::cmd("UNLINK");
        command.arg(self.keys.fixed());
        for bucket in buckets {
            command.arg(self.keys.results(bucket));
        }
        for name in status.completions.keys() {
            let name = Name::new(name.as_str())?;
            command.arg(&[self.keys.done(&name), self.keys.wake_done(&name)]);
        }
        for id in self.tasks_with_log().await? {
            command.arg(self.keys.log(id));
        }
        let doing = "delete the queue";
        self.broker
            .control()
            .send(&command, doing, PATIENCE)
            .await?;
        self.broker.forget_queue(&self.name).await
    }

    /// Gives dead letters a new life, one call's worth: those named, at most 100, or the oldest 100.
    pub async fn requeue(&self, ids: Option<&[TaskId]>) -> Result<u64> {
        self.dead_call("requeue", ids).await
    }

    /// Deletes dead letters for good, one call's worth: those named, at most 100, or the oldest 100.
    pub async fn purge_dead(&self, ids: Option<&[TaskId]>) -> Result<u64> {
        self.dead_call("purge_dead", ids).await
    }

    async fn dead_call(&self, verb: &'static str, ids: Option<&[TaskId]>) -> Result<u64> {
        let call: Call = match ids {
            Some([]) => return Ok(0),
            None => self.call(verb).arg(LOOKUP_CHUNK),
            Some(ids) => ids
                .iter()
                .take(LOOKUP_CHUNK)
                .fold(self.call(verb).arg(""), |call, id| {
                    call.arg(id.as_bytes().as_slice())
                }),
        };
        reply::number(self.broker.control().call(&call, PATIENCE).await?, verb)
    }
}
