//! Waiting without polling: wake tokens, and news of stop orders.

use std::time::Duration;

use super::Shard;
use crate::connection::link::{Link, Subscription};
use crate::error::Result;
use crate::ids::Name;
use crate::keys::ShardKeys;
use crate::reply;

/// Waits for a token on any of several lists. It has a connection of its own, as the wait blocks there.
pub struct Waiter {
    link: Link,
    lists: Vec<String>,
}

impl Waiter {
    /// Waits for ready tasks of these shards, which are on one broker, for at most `longest` at a time.
    ///
    /// # Panics
    ///
    /// If there is no shard.
    #[must_use]
    pub fn for_tasks<'a>(shards: impl IntoIterator<Item = &'a Shard>, longest: Duration) -> Self {
        Self::new(shards, longest, ShardKeys::wake)
    }

    pub(super) fn for_completions(shards: &[Shard], name: &Name, longest: Duration) -> Self {
        Self::new(shards, longest, |keys| keys.wake_done(name))
    }

    pub(super) fn for_room(shards: &[Shard], longest: Duration) -> Self {
        Self::new(shards, longest, ShardKeys::room)
    }

    fn new<'a>(
        shards: impl IntoIterator<Item = &'a Shard>,
        longest: Duration,
        list: impl Fn(&ShardKeys) -> String,
    ) -> Self {
        let shards: Vec<&Shard> = shards.into_iter().collect();
        Self {
            link: shards[0].broker.waiting(longest),
            lists: shards.iter().map(|shard| list(shard.keys())).collect(),
        }
    }

    /// Waits until a token comes, and answers from which list, counted from 0; `None` where the time is over.
    /// A token that is lost costs one such wait.
    pub async fn wait(&self, longest: Duration) -> Result<Option<usize>> {
        block_on(&self.link, &self.lists, longest).await
    }
}

impl Shard {
    /// Pushes a wake token, in place of one that a worker may have taken just before it stopped.
    pub async fn pass_wake(&self) -> Result<()> {
        let mut command = redis::cmd("RPUSH");
        command.arg(self.keys().wake()).arg("1");
        self.broker
            .control()
            .send(&command, "pass a wake token on", Duration::from_secs(1))
            .await
            .map(drop)
    }
}

async fn block_on(link: &Link, lists: &[String], longest: Duration) -> Result<Option<usize>> {
    let mut command = redis::cmd("BLPOP");
    command.arg(lists).arg(longest.as_secs_f64().max(0.001));
    let mut answer = reply::items(link.send_once(&command, "wait").await?, "wait")?.into_iter();
    let Some(list) = answer.next() else {
        return Ok(None);
    };
    let list = reply::text(list, "wait")?;
    Ok(lists.iter().position(|known| *known == list))
}

/// News that some worker has stop orders. It makes stopping quick; heartbeats make it sure.
pub struct StopOrders(Subscription);

impl StopOrders {
    /// Listens for the workers of these shards.
    pub async fn listen(shards: &[Shard]) -> Result<Option<Self>> {
        let Some(first) = shards.first() else {
            return Ok(None);
        };
        let channels: Vec<String> = shards.iter().map(|s| s.keys().stop()).collect();
        first
            .broker
            .control()
            .subscribe(&channels)
            .await
            .map(|s| Some(Self(s)))
    }

    /// The incarnation of the worker that has orders, as bytes; `None` once the connection is gone.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        self.0.next().await
    }
}
