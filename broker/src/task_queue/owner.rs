//! Owners: clients whose tasks end with them.

use super::lease::{Renewal, renew};
use super::shards::all;
use super::{DEFAULT_LEASE, Heartbeat, Shard, TaskQueue};
use crate::broker::PATIENCE;
use crate::error::{Error, Result};
use crate::ids::{Incarnation, Name};
use crate::reply;

/// Somebody whose tasks end with it: when it is gone, its queued tasks are dropped and its private completion queue is
/// deleted; when its lease ends without [`Owner::close`], its running tasks are stopped as well.
pub struct Owner {
    queue: TaskQueue,
    shards: Vec<Shard>,
    who: Incarnation,
    renewal: Renewal,
}

impl TaskQueue {
    /// Joins as an owner with this private completion queue, under a lease of 15 s that is renewed, on each shard.
    pub async fn join_as_owner(&self, completions: &Name) -> Result<Owner> {
        self.join(completions.as_str()).await
    }

    /// Joins as the parent of processes, whose completions are posted to no queue.
    pub(crate) async fn join_as_parent(&self) -> Result<Owner> {
        self.join("").await
    }

    async fn join(&self, completions: &str) -> Result<Owner> {
        let who = Incarnation::new();
        let shards = self.make().await?.to_vec();
        all(shards.iter().map(|shard| shard.join(who, completions))).await?;
        Ok(Owner {
            queue: self.clone(),
            who,
            renewal: Renewal::start(shards.clone(), who, DEFAULT_LEASE),
            shards,
        })
    }

    /// Renews a client's lease on all shards, once. [`Error::LeaseLost`] says that it is too late on one of them.
    pub async fn renew(&self, beat: &Heartbeat) -> Result<()> {
        renew(self.shards().await?, beat).await
    }

    /// Whether this client's lease goes on, by the server's clock; on the first shard, as on the others.
    pub async fn is_client_alive(&self, client: Incarnation) -> Result<bool> {
        let doing = "look for a client's lease";
        let mut command = redis::cmd("ZMSCORE");
        command
            .arg(self.first().keys().workers())
            .arg(client.as_bytes().as_slice());
        let control = self.broker().control();
        let rows = reply::items(control.send(&command, doing, PATIENCE).await?, doing)?;
        let now_ms = self.broker().server_time_ms().await?;
        Ok(rows.first().is_some_and(|row| ends_after(row, now_ms)))
    }
}

/// Whether a score of `workers`, which RESP2 and RESP3 write in two ways, is a deadline later than this.
fn ends_after(score: &redis::Value, now_ms: u64) -> bool {
    let deadline = match score {
        redis::Value::Double(score) => *score,
        redis::Value::BulkString(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
        _ => return false,
    };
    deadline > now_ms as f64
}

impl Owner {
    /// What its tasks name as their owner.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.who
    }

    /// Whether its lease is lost, so that what named it as owner is dropped.
    pub(crate) fn is_lost(&self) -> bool {
        self.renewal.is_over()
    }

    /// The queue that it has joined.
    pub(crate) fn queue(&self) -> &TaskQueue {
        &self.queue
    }

    /// Resolves when its lease has ended although it lives: its tasks are being dropped.
    pub async fn lost(&mut self) {
        self.renewal.lost().await;
    }

    /// Leaves: its private completion queue goes at once.
    pub async fn close(self) -> Result<()> {
        let left = all(self.shards.iter().map(|shard| shard.leave(self.who, 0)));
        left.await.map(drop)
    }
}

impl Shard {
    async fn join(&self, who: Incarnation, completions: &str) -> Result<()> {
        let call = self
            .call("join")
            .arg(who.as_bytes().as_slice())
            .arg(DEFAULT_LEASE.as_millis() as u64)
            .arg(completions);
        let answer = reply::tagged(self.broker.control().call(&call, PATIENCE).await?, "join")?;
        if answer.tag == "ok" {
            Ok(())
        } else {
            Err(Error::LeaseLost {
                queue: self.queue.clone(),
            })
        }
    }

    /// Ends a client's row, and confirms the completions that it got last, under this token; 0 where it got none.
    pub(super) async fn leave(&self, who: Incarnation, token: u64) -> Result<()> {
        let who = who.as_bytes().as_slice();
        let call = self.call("leave").arg(who).arg(token);
        self.broker.control().call(&call, PATIENCE).await.map(drop)
    }
}
