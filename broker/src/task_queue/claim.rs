//! claim: ready tasks for a worker, under its lease. This is `get_nowait`.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use redis::Value;

use super::{How, Shard};
use crate::broker::PATIENCE;
use crate::completion::{Completion, Report};
use crate::envelope::digest_of;
use crate::error::{Error, Result};
use crate::ids::{Incarnation, Name, TaskId};
use crate::reply::{self, odd};

const SUSPECT: u16 = 0x4000;
const ORPHAN: u16 = 0x8000;

/// What a worker sends back to end a run, exactly as the claim gave it: it names the worker and holds the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run(pub(crate) Bytes);

impl Run {
    /// The worker that was granted it, as the broker knows it.
    #[must_use]
    pub fn worker(&self) -> Option<Incarnation> {
        self.0.get(..16).and_then(Incarnation::from_slice)
    }

    /// The token: only the newest one of a task can finish it.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.0
            .get(16..24)
            .and_then(|t| t.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    }

    /// Which run of its task this is, 1 for the first.
    #[must_use]
    pub fn attempt(&self) -> u16 {
        self.field(0).unwrap_or(1)
    }

    fn rest(&self) -> &[u8] {
        let base = 25 + usize::from(self.0.get(24).copied().unwrap_or(0));
        self.0.get(base..).unwrap_or_default()
    }

    fn field(&self, at: usize) -> Option<u16> {
        self.rest()
            .get(at..at + 2)
            .and_then(|f| f.try_into().ok())
            .map(u16::from_le_bytes)
    }
}

/// A task that this worker holds.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The task's id.
    pub id: TaskId,
    /// Proof of this run.
    pub run: Run,
    /// The task as it was submitted; it may be unreadable.
    pub envelope: Bytes,
    /// The broker's time when it was claimed, in ms since the epoch.
    pub claimed_ms: u64,
}

impl Claim {
    /// Which run this is, 1 for the first.
    #[must_use]
    pub fn attempt(&self) -> u16 {
        self.run.attempt()
    }

    /// How this run ended, as little as a completion says: no exit code, no report and no body, at the time of the claim.
    #[must_use]
    pub fn completion(&self, how: How) -> Completion {
        let claimed_us = self.claimed_ms * 1000;
        Completion {
            id: self.id,
            outcome: how.outcome(),
            exit: None,
            digest: digest_of(&self.envelope),
            token: self.run.token(),
            attempt: self.attempt(),
            started_us: claimed_us,
            finished_us: claimed_us,
            worker: String::new(),
            report: Report::default(),
            body: Bytes::new(),
        }
    }

    /// Whether workers have died under it, so that it must not have company of its kind.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.run.field(2).is_some_and(|flags| flags & SUSPECT != 0)
    }

    /// Whether the client that owns it is gone, so that nobody wants it any more.
    #[must_use]
    pub fn is_orphan(&self) -> bool {
        self.run.field(2).is_some_and(|flags| flags & ORPHAN != 0)
    }
}

/// What a worker asks for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// How many tasks, 1 to 500.
    pub n: usize,
    /// Whether it may get one that workers have died under.
    pub suspect: bool,
    /// Whether it is going to wait where nothing more is ready.
    pub wait: bool,
}

/// What a claim answered.
#[derive(Debug, Default)]
pub struct Claimed {
    /// The tasks; empty where nothing is ready.
    pub tasks: Vec<Claim>,
    /// When to claim again at the latest, where this worker was chosen to watch the clock; zero where more may be ready.
    /// Otherwise nothing more is, and what becomes ready leaves a wake token.
    pub wait: Option<Duration>,
    /// Whether some worker's lease has ended, so that its tasks can be reclaimed.
    pub lease_ended: bool,
}

/// Claims tasks of one shard for one worker. Its numbered calls make a lost reply harmless.
pub struct Claimer {
    shard: Shard,
    worker: Incarnation,
    number: u32,
    lease: Duration,
    completions: String,
    patience: Duration,
}

impl Shard {
    /// A claimer for this worker, which posts completions to `completions` where a task names no other queue.
    #[must_use]
    pub fn claimer(
        &self,
        worker: Incarnation,
        lease: Duration,
        completions: Option<&Name>,
    ) -> Claimer {
        Claimer {
            shard: self.clone(),
            patience: PATIENCE,
            worker,
            number: 0,
            lease,
            completions: completions.map_or_else(String::new, ToString::to_string),
        }
    }
}

impl Claimer {
    /// Takes up to `ask.n` ready tasks at once, or none. In Python this is `Queue.get_nowait`.
    ///
    /// [`Error::Deleted`] says that the queue was deleted and made again with another number of shards.
    ///
    /// While the broker is away it tries for 10 s, unless [told otherwise](Self::with_patience); the next call then asks for the same claim again.
    pub async fn get_nowait(&mut self, ask: Ask) -> Result<Claimed> {
        if self.number == u32::MAX {
            return Err(Error::LeaseLost {
                queue: self.shard.queue.clone(),
            }); // its numbers are used up
        }
        let flag = |set: bool| if set { "1" } else { "0" };
        let call = self
            .shard
            .call("claim")
            .arg(self.worker.as_bytes().as_slice())
            .arg(self.number + 1)
            .arg(ask.n)
            .arg(self.lease.as_millis() as u64)
            .arg(&self.completions)
            .arg(flag(ask.suspect))
            .arg(flag(ask.wait))
            .arg(self.shard.whole().shards);
        let answer = self
            .shard
            .broker
            .control()
            .call(&call, self.patience)
            .await?;
        let mut answer = reply::tagged(answer, "claim")?;
        if answer.tag == "moved" {
            // Where the queue is as it was known here, nobody has used the shard yet.
            return if self.shard.is_elsewhere().await? {
                Err(self.shard.deleted())
            } else {
                Ok(Claimed::default())
            };
        }
        if answer.tag != "ok" {
            return Err(Error::LeaseLost {
                queue: self.shard.queue.clone(),
            });
        }
        let now_ms = answer.number()?;
        let wait = answer.text()?.parse().ok().map(Duration::from_millis);
        let lease_ended = answer.text()? == "1";
        let common = answer.bytes()?;
        let items = answer.items()?;
        let rests = answer.items_if_any()?;
        if !items.is_empty() {
            // Asked again, an empty claim finds what a belated copy of it may have brought.
            self.number += 1;
        }
        let tasks = claims(&common, items, rests, now_ms)?;
        Ok(Claimed {
            tasks,
            wait,
            lease_ended,
        })
    }

    /// Sets for how long a call is tried while the broker is away; 10 s unless set.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Goes on for the worker under its next incarnation, after its lease was lost.
    pub fn become_incarnation(&mut self, worker: Incarnation) {
        (self.worker, self.number) = (worker, 0);
    }

    /// The number of the last claim that brought tasks.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> &Shard {
        &self.shard
    }
}

/// Reads the tasks of a claim; each adds its rest to the common part of the running values, where there are rests.
fn claims(
    common: &Bytes,
    items: Vec<Value>,
    rests: Vec<Value>,
    claimed_ms: u64,
) -> Result<Vec<Claim>> {
    let mut tasks = Vec::with_capacity(items.len() / 2);
    let (mut items, mut rests) = (items.into_iter(), rests.into_iter());
    while let (Some(id), Some(envelope)) = (items.next(), items.next()) {
        let id = reply::bytes(id, "claim")?;
        let run = match rests.next() {
            Some(rest) => joined(common, &reply::bytes(rest, "claim")?),
            None => common.clone(),
        };
        tasks.push(Claim {
            id: TaskId::from_slice(&id).ok_or_else(|| odd("claim"))?,
            run: Run(run),
            envelope: reply::bytes(envelope, "claim")?,
            claimed_ms,
        });
    }
    Ok(tasks)
}

fn joined(common: &Bytes, rest: &Bytes) -> Bytes {
    if rest.is_empty() {
        return common.clone();
    }
    let mut run = BytesMut::with_capacity(common.len() + rest.len());
    run.put_slice(common);
    run.put_slice(rest);
    run.freeze()
}
