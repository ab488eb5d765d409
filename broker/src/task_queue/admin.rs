//! configure, purge, requeue, `purge_dead`: what operators do to a queue.

use std::time::Duration;

use super::shards::all;
use super::{CHUNK, LOOKUP_CHUNK, Shard, TaskQueue};
use crate::broker::PATIENCE;
use crate::error::Result;
use crate::functions::Call;
use crate::ids::{Name, TaskId};
use crate::reply::{self, odd};

/// Settings of a queue to write; `None` leaves a setting as it is. Numbers are of the whole queue: where it has several
/// shards each gets its part, but at least 1, so a limit far below 500 for each shard refuses large submits for ever.
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

impl Settings {
    /// The settings of one shard of so many, as they stand in Redis.
    fn of_shard(&self, number: usize, shards: usize) -> Vec<(&'static str, String)> {
        // The parts add up to the whole again.
        let (number, shards) = (number as u64, shards as u64);
        let part = |whole: u64| (whole / shards + u64::from(number < whole % shards)).max(1);
        let flag = |set: bool| if set { "1".to_owned() } else { String::new() };
        let size = |max: u64| match max {
            0 => String::new(),
            max => part(max).to_string(),
        };
        let pairs = [
            ("paused", self.paused.map(flag)),
            ("maxsize", self.maxsize.map(size)),
            (
                "retention",
                self.retention.map(|r| r.as_millis().max(1000).to_string()),
            ),
            ("results_max", self.results_max.map(|n| part(n).to_string())),
            (
                "completions",
                self.completions.as_ref().map(ToString::to_string),
            ),
            (
                "completions_max",
                self.completions_max.map(|n| part(n).to_string()),
            ),
            ("log_max", self.log_max.map(|n| n.to_string())),
            ("logs_max", self.logs_max.map(|n| part(n).to_string())),
        ];
        let set = |(name, value): (_, Option<String>)| Some((name, value?));
        pairs.into_iter().filter_map(set).collect()
    }
}

impl TaskQueue {
    /// Writes settings, on all shards at once. A shard that can't be reached is tried for 10 s; after an error some may
    /// have the settings and others not, until it is called again.
    pub async fn configure(&self, settings: &Settings) -> Result<()> {
        self.follow().await?;
        let shards = self.open().await?;
        let calls = shards
            .iter()
            .map(|shard| shard.configure(settings.of_shard(shard.number(), shards.len())));
        all(calls).await.map(drop)
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

    /// Cancels tasks that wait, ready or scheduled, one call's worth of each shard: how many, and whether more wait.
    pub async fn purge_some(&self) -> Result<(u64, bool)> {
        let purged = all(self.shards().await?.iter().map(Shard::purge_some)).await?;
        let count = purged.iter().map(|(count, _)| count).sum();
        Ok((count, purged.iter().any(|(_, more)| *more)))
    }

    /// Deletes the queue with all that is in it, and takes it off the list of queues: for a queue of one's own,
    /// once its workers have stopped. Until it is through, others get [`Error::Deleted`](crate::Error::Deleted); whoever submits
    /// after it begins a new one under the same name. What was cut short is gone on with when it is called again.
    pub async fn delete(&self) -> Result<()> {
        self.follow().await?;
        let shards = self.shards().await?;
        if shards.len() > 1 {
            self.first().mark_deleting().await?;
        }
        // The first goes last: it knows how many there are.
        for shard in shards.iter().rev() {
            shard.delete().await?;
        }
        self.broker().forget_queue(self.name()).await
    }

    /// Gives dead letters a new life, one call's worth: those named, at most 100, or the oldest 100 of each shard.
    pub async fn requeue(&self, ids: Option<&[TaskId]>) -> Result<u64> {
        self.each_dead("requeue", ids).await
    }

    /// Deletes dead letters for good, one call's worth: those named, at most 100, or the oldest 100 of each shard.
    pub async fn purge_dead(&self, ids: Option<&[TaskId]>) -> Result<u64> {
        self.each_dead("purge_dead", ids).await
    }

    async fn each_dead(&self, verb: &'static str, ids: Option<&[TaskId]>) -> Result<u64> {
        let counts = match ids {
            None => {
                let shards = self.shards().await?.iter();
                all(shards.map(|shard| shard.dead_call(verb, None))).await?
            }
            Some(ids) => {
                let parts = self.split(ids.get(..LOOKUP_CHUNK).unwrap_or(ids)).await?;
                all(parts
                    .iter()
                    .map(|part| part.shard.dead_call(verb, Some(&part.ids))))
                .await?
            }
        };
        Ok(counts.iter().sum())
    }
}

impl Shard {
    async fn configure(&self, settings: Vec<(&'static str, String)>) -> Result<()> {
        let resumes = settings.contains(&("paused", String::new()));
        let call = settings
            .into_iter()
            .fold(self.call("configure"), |call, (name, value)| {
                call.arg(name).arg(value)
            });
        self.broker.control().call(&call, PATIENCE).await?;
        if resumes {
            self.announce(usize::MAX).await;
        }
        Ok(())
    }

    async fn purge_some(&self) -> Result<(u64, bool)> {
        let call = self.call("purge").arg(CHUNK);
        let answer = self.broker.control().call(&call, PATIENCE).await?;
        let mut items = reply::items(answer, "purge")?.into_iter();
        let (Some(count), Some(more)) = (items.next(), items.next()) else {
            return Err(odd("purge"));
        };
        Ok((
            reply::number(count, "purge")?,
            reply::text(more, "purge")? == "1",
        ))
    }

    /// From now on nobody makes a shard of this queue, whose first one this is.
    async fn mark_deleting(&self) -> Result<()> {
        let mut command = redis::cmd("HSET");
        command.arg(&self.keys().fixed()[0]).arg(&["deleting", "1"]);
        let control = self.broker.control();
        let marked = control.send(&command, "delete the queue", PATIENCE);
        marked.await.map(drop)
    }

    async fn delete(&self) -> Result<()> {
        let status = self.status().await?;
        let buckets = status.meta.get("buckets").map_or("", String::as_str);
        let buckets = buckets.split(',').filter(|bucket| !bucket.is_empty());
        let mut command = redis::cmd("UNLINK");
        command.arg(self.keys().fixed());
        for bucket in buckets {
            command.arg(self.keys().results(bucket));
        }
        for name in status.completions.keys() {
            let name = Name::new(name.as_str())?;
            command.arg(&[self.keys().done(&name), self.keys().wake_done(&name)]);
        }
        for id in self.tasks_with_log().await? {
            command.arg(self.keys().log(id));
        }
        let doing = "delete the queue";
        self.broker
            .control()
            .send(&command, doing, PATIENCE)
            .await
            .map(drop)
    }

    async fn dead_call(&self, verb: &'static str, ids: Option<&[TaskId]>) -> Result<u64> {
        let call: Call = match ids {
            Some([]) => return Ok(0),
            None => self.call(verb).arg(LOOKUP_CHUNK),
            Some(ids) => ids.iter().fold(self.call(verb).arg(""), |call, id| {
                call.arg(id.as_bytes().as_slice())
            }),
        };
        let count = reply::number(self.broker.control().call(&call, PATIENCE).await?, verb)?;
        if verb == "requeue" {
            self.announce(count as usize).await;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_limit_add_up_to_it() {
        let settings = Settings {
            maxsize: Some(10),
            log_max: Some(7),
            ..Settings::default()
        };
        let of = |s| settings.of_shard(s, 4);
        let sizes: Vec<_> = (0..4).map(|s| of(s)[0].clone().1).collect();
        assert_eq!(sizes, ["3", "3", "2", "2"]);
        assert_eq!(of(3)[1], ("log_max", "7".to_owned()));
        let none = Settings {
            maxsize: Some(0),
            ..Settings::default()
        };
        assert_eq!(none.of_shard(0, 4), [("maxsize", String::new())]);
        let few = Settings {
            maxsize: Some(1),
            ..Settings::default()
        };
        assert_eq!(few.of_shard(3, 4), [("maxsize", "1".to_owned())]);
    }
}
