//! Completion queues: how tasks ended, until somebody gets it. And owners, whose tasks end with them.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::lease::Renewal;
use super::{CHUNK, DEFAULT_LEASE, TaskQueue, Waiter, deadline_after};
use crate::broker::PATIENCE;
use crate::completion::Completion;
use crate::error::{Error, Result};
use crate::ids::{Incarnation, Name};
use crate::lending::while_waiting;
use crate::reply;

/// The longest single wait, so that a lost token costs no more than this.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Gets completions from one completion queue. In the seed of the whole program it is the second queue.
///
/// What it got last stays its own until the next call confirms it; if this process dies before, another consumer gets
/// the same completions again, and none is lost.
pub struct Consumer {
    queue: TaskQueue,
    name: Name,
    who: Incarnation,
    number: u32,
    lease: Duration,
    renewal: Option<Renewal>,
    waiter: Waiter,
}

impl TaskQueue {
    /// A consumer of the completion queue `name`.
    #[must_use]
    pub fn completions(&self, name: &Name) -> Consumer {
        Consumer {
            waiter: Waiter::for_completions(self, name, LONGEST_WAIT),
            queue: self.clone(),
            name: name.clone(),
            who: Incarnation::new(),
            number: 0,
            lease: DEFAULT_LEASE,
            renewal: None,
        }
    }
}

impl Consumer {
    /// Sets the lease under which it holds what it got; 15 s unless set.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Gets one completion, or `None` where there is none. In Python this is `Queue.get_nowait`.
    pub async fn get_nowait(&mut self) -> Result<Option<Completion>> {
        Ok(self.get_many_nowait(1).await?.pop())
    }

    /// Gets one completion, waiting up to `timeout`. In Python this is `Queue.get(timeout=...)`.
    pub async fn get(&mut self, timeout: Duration) -> Result<Option<Completion>> {
        Ok(self.get_many(1, timeout).await?.pop())
    }

    /// Gets up to `n` completions as soon as there is one, waiting up to `timeout`; none where it passed.
    ///
    /// A task that waits for others lends its slot meanwhile.
    pub async fn get_many(&mut self, n: usize, timeout: Duration) -> Result<Vec<Completion>> {
        let deadline = deadline_after(timeout);
        let got = self.get_many_nowait(n).await?;
        if !got.is_empty() || timeout.is_zero() {
            return Ok(got);
        }
        while_waiting(self.get_many_until(n, deadline)).await
    }

    async fn get_many_until(&mut self, n: usize, deadline: Instant) -> Result<Vec<Completion>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.waiter.wait(left.min(LONGEST_WAIT)).await {
                Ok(Some(_)) => {}
                // There may be no worker that puts back what consumers held whose lease has ended.
                Ok(None) => self.queue.take_back(self.lease).await,
                Err(error) => {
                    tracing::debug!(target: "pmq", %error, "waiting for completions");
                    tokio::time::sleep(Duration::from_millis(100).min(left)).await;
                }
            }
            let got = self.get_many_nowait(n).await?;
            if !got.is_empty() || Instant::now() >= deadline {
                return Ok(got);
            }
        }
    }

    /// Gets up to `n` completions, at most 500 and 1 MiB, but at least one where there is one.
    pub async fn get_many_nowait(&mut self, n: usize) -> Result<Vec<Completion>> {
        let items = self.take(n.min(CHUNK)).await?;
        if !items.is_empty() && self.renewal.is_none() {
            self.renewal = Some(Renewal::start(self.queue.clone(), self.who, self.lease));
        }
        let sealing = self.queue.sealing();
        let decoded = items.iter().map(|item| sealing.open_posted(item));
        Ok(decoded
            .filter_map(|c| {
                c.inspect_err(
                    |error| tracing::error!(target: "pmq", %error, "dropped a completion"),
                )
                .ok()
            })
            .collect())
    }

    async fn take(&mut self, n: usize) -> Result<Vec<Bytes>> {
        loop {
            let call = self
                .queue
                .call("take")
                .arg(self.who.as_bytes().as_slice())
                .arg(self.number + 1)
                .arg(self.name.as_str())
                .arg(n)
                .arg(self.lease.as_millis() as u64);
            let mut answer = reply::tagged(
                self.queue.broker.control().call(&call, PATIENCE).await?,
                "take",
            )?;
            if answer.tag == "ok" {
                let items = answer.items()?;
                if !items.is_empty() {
                    // Asked again, an empty take finds what a belated copy of it may have taken.
                    self.number += 1;
                }
                return items
                    .into_iter()
                    .map(|item| reply::bytes(item, "take"))
                    .collect();
            }
            // The lease ended, so what it held went back to the queue: go on as somebody new.
            (self.who, self.number, self.renewal) = (Incarnation::new(), 0, None);
        }
    }

    /// How many completions wait on the queue. In Python this is `Queue.qsize`.
    pub async fn len(&self) -> Result<u64> {
        let mut command = redis::cmd("LLEN");
        command.arg(self.queue.keys.done(&self.name));
        let doing = "count completions";
        reply::number(
            self.queue
                .broker
                .control()
                .send(&command, doing, PATIENCE)
                .await?,
            doing,
        )
    }

    /// Whether none waits. In Python this is `Queue.empty`.
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// Confirms what it got last, and leaves.
    pub async fn close(mut self) -> Result<()> {
        self.renewal = None;
        if self.number > 0 {
            leave(&self.queue, self.who, true).await
        } else {
            Ok(())
        }
    }
}

/// Somebody whose tasks end with it: when it is gone, its queued tasks are dropped and its private completion queue is
/// deleted; when its lease ends without [`Owner::close`], its running tasks are stopped as well.
pub struct Owner {
    queue: TaskQueue,
    who: Incarnation,
    renewal: Renewal,
}

impl TaskQueue {
    /// Joins as an owner with this private completion queue, under a lease of 15 s that is renewed.
    pub async fn join_as_owner(&self, completions: &Name) -> Result<Owner> {
        self.join(completions.as_str()).await
    }

    /// Joins as the parent of processes, whose completions are posted to no queue.
    pub(crate) async fn join_as_parent(&self) -> Result<Owner> {
        self.join("").await
    }

    async fn join(&self, completions: &str) -> Result<Owner> {
        let who = Incarnation::new();
        let call = self
            .call("join")
            .arg(who.as_bytes().as_slice())
            .arg(DEFAULT_LEASE.as_millis() as u64)
            .arg(completions);
        let answer = reply::tagged(self.broker.control().call(&call, PATIENCE).await?, "join")?;
        if answer.tag != "ok" {
            return Err(Error::LeaseLost {
                queue: self.name.clone(),
            });
        }
        Ok(Owner {
            queue: self.clone(),
            who,
            renewal: Renewal::start(self.clone(), who, DEFAULT_LEASE),
        })
    }

    /// Whether this client's lease goes on, by the server's clock.
    pub async fn is_client_alive(&self, client: Incarnation) -> Result<bool> {
        let doing = "look for a client's lease";
        let mut command = redis::cmd("ZMSCORE");
        command
            .arg(self.keys.workers())
            .arg(client.as_bytes().as_slice());
        let control = self.broker.control();
        let rows = reply::items(control.send(&command, doing, PATIENCE).await?, doing)?;
        let now_ms = self.broker.server_time_ms().await?;
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
        leave(&self.queue, self.who, true).await
    }
}

async fn leave(queue: &TaskQueue, who: Incarnation, confirm: bool) -> Result<()> {
    let call = queue
        .call("leave")
        .arg(who.as_bytes().as_slice())
        .arg(if confirm { "1" } else { "0" });
    queue.broker.control().call(&call, PATIENCE).await.map(drop)
}
