//! The shards of a queue: how many there are, and which of them a call is for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use redis::Value;

use super::shard::Whole;
use super::{Shard, TaskQueue};
use crate::broker::PATIENCE;
use crate::error::{Error, Result};
use crate::ids::{Name, TaskId};
use crate::keys::ShardKeys;
use crate::reply;

/// The most shards that a queue can have.
pub const SHARDS_LIMIT: u16 = 4096;
/// How many shards a queue gets that nobody has created before its first use: on a Cluster enough for some primaries more.
const SHARDS: u16 = 1;
const SHARDS_ON_CLUSTER: u16 = 16;

/// The keys of each queue's shards, as far as this process has asked how many there are: that stays as it is.
#[derive(Clone, Default)]
pub(crate) struct KnownQueues(Arc<Mutex<HashMap<Name, KeysOfShards>>>);

type KeysOfShards = Vec<Arc<ShardKeys>>;

impl KnownQueues {
    fn get(&self, queue: &Name) -> Option<KeysOfShards> {
        self.map().get(queue).cloned()
    }

    fn add(&self, queue: &Name, keys: &KeysOfShards) {
        self.map().insert(queue.clone(), keys.clone());
    }

    pub(crate) fn forget(&self, queue: &Name) {
        self.map().remove(queue);
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<Name, KeysOfShards>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TaskQueue {
    /// All shards of the queue, which is put on the list of queues. A new queue is made first: with 1 shard, or 16 on a
    /// Redis Cluster. Asked once a process.
    pub async fn open(&self) -> Result<&[Shard]> {
        let shards = self.make().await?;
        self.register().await?;
        Ok(shards)
    }

    /// The same, where the queue may have been deleted and made again since this process asked.
    pub async fn open_anew(&self) -> Result<&[Shard]> {
        self.follow().await?;
        self.open().await
    }

    /// The same, without the list.
    pub(super) async fn make(&self) -> Result<&[Shard]> {
        let new = if self.broker().is_cluster() {
            SHARDS_ON_CLUSTER
        } else {
            SHARDS
        };
        self.learn(Some(new)).await
    }

    /// All shards of the queue; the first alone where the queue was never used. Makes nothing.
    pub async fn shards(&self) -> Result<&[Shard]> {
        self.learn(None).await
    }

    /// All shards, where this process has [opened](Self::open) the queue already; else the first alone.
    #[must_use]
    pub fn opened(&self) -> &[Shard] {
        let opened = self.now().inner.shards.get().map(Vec::as_slice);
        opened.unwrap_or(std::slice::from_ref(self.first()))
    }

    /// Puts the queue on the list of queues, which submitting does as well.
    pub async fn register(&self) -> Result<()> {
        self.broker().register(self.name()).await
    }

    async fn learn(&self, new: Option<u16>) -> Result<&[Shard]> {
        let known = &self.now().inner.shards;
        if let Some(shards) = known.get() {
            return Ok(shards);
        }
        let shards = if let Some(shards) = self.known() {
            shards
        } else {
            match new {
                Some(new) => {
                    let has = self.first().call_open(new).await?;
                    self.all(has)
                }
                None => match self.first().count().await? {
                    0 => return Ok(std::slice::from_ref(self.first())),
                    has => self.all(has),
                },
            }
        };
        Ok(known.get_or_init(async || shards).await)
    }

    /// The queue as this process has learned last that it is.
    fn now(&self) -> &Self {
        let mut now = self;
        while let Some(next) = now.inner.next.get() {
            now = next;
        }
        now
    }

    /// Goes on with the queue as it is now, where it was deleted and made again with another number of shards since this
    /// process asked; answers whether that is so.
    pub(super) async fn follow(&self) -> Result<bool> {
        let last = self.now();
        let Some(known) = last.inner.shards.get() else {
            return Ok(false);
        };
        if !known[0].is_elsewhere().await? {
            return Ok(false);
        }
        self.broker().known_queues().forget(self.name());
        let next = self.broker().task_queue(self.name());
        next.shards().await?;
        last.inner.next.get_or_init(|| next);
        Ok(true)
    }

    /// Makes the queue, with so many shards, 1 to 4,096. That number stays; where there is a queue with another one it is
    /// [`Error::Shards`], and where it has the same nothing is done.
    pub async fn create(&self, shards: u16) -> Result<()> {
        if shards == 0 || shards > SHARDS_LIMIT {
            return Err(Error::BadOption(format!(
                "a queue has 1 to {SHARDS_LIMIT} shards"
            )));
        }
        let has = self.first().call_open(shards).await?;
        if has != shards {
            return Err(Error::Shards {
                queue: self.name().clone(),
                has,
                wanted: shards,
            });
        }
        self.follow().await?;
        self.register().await
    }

    /// All shards where there are so many.
    fn all(&self, number: u16) -> Vec<Shard> {
        let known = self.broker().known_queues();
        let keys = known.get(self.name()).unwrap_or_else(|| {
            let all = ShardKeys::all(self.broker().namespace(), self.name(), number);
            let all = all.into_iter().map(Arc::new).collect();
            known.add(self.name(), &all);
            all
        });
        self.shards_of(keys)
    }

    /// The shards, where this process knows them already.
    pub(super) fn known(&self) -> Option<Vec<Shard>> {
        let keys = self.broker().known_queues().get(self.name())?;
        Some(self.shards_of(keys))
    }

    fn shards_of(&self, keys: KeysOfShards) -> Vec<Shard> {
        let several = self.broker().is_cluster() && keys.len() > 1;
        let first = keys[0].clone();
        let whole = Arc::new(Whole {
            shards: keys.len() as u16,
            wake_all: several.then(|| first.wake_all()),
            first,
        });
        let rest = (1..).zip(keys.into_iter().skip(1));
        let rest =
            rest.map(|(s, keys)| Shard::new(self.broker().clone(), self.name().clone(), s, keys));
        let all = std::iter::once(self.first().clone()).chain(rest);
        all.map(|shard| shard.part_of(whole.clone())).collect()
    }

    /// The shard of a task.
    pub(crate) async fn shard_of(&self, id: TaskId) -> Result<&Shard> {
        let shards = self.shards().await?;
        Ok(&shards[id.shard(shards.len())])
    }

    /// Which of these tasks are on which shard, in their order.
    pub(super) async fn split(&self, ids: &[TaskId]) -> Result<Vec<Part<'_>>> {
        let shards = self.shards().await?;
        let mut parts: Vec<Part<'_>> = shards.iter().map(Part::new).collect();
        for (place, id) in ids.iter().enumerate() {
            let part = &mut parts[id.shard(shards.len())];
            part.places.push(place);
            part.ids.push(*id);
        }
        parts.retain(|part| !part.ids.is_empty());
        Ok(parts)
    }
}

impl Shard {
    /// How many shards the queue has, says this one; a queue, or shard, that is new is made with so many.
    async fn call_open(&self, new: u16) -> Result<u16> {
        let call = self.call("open").arg(new);
        let call = if self.number() > 0 {
            call.arg("1")
        } else {
            call
        };
        let answer = self.broker.control().call(&call, PATIENCE).await?;
        let number: u64 = reply::number(answer, "open")?;
        match u16::try_from(number).map_err(|_| reply::odd("open"))? {
            0 => Err(self.deleted()),
            number => Ok(number),
        }
    }

    /// How many shards the queue was made with, 0 where it was not made, or before it could have several: for who may only
    /// look. It reads nothing else, as another part of the queue may be spoilt.
    async fn count(&self) -> Result<u16> {
        let doing = "ask how many shards there are";
        let mut command = redis::cmd("HGET");
        command.arg(&self.keys().fixed()[0]).arg("shards");
        let control = self.broker.control();
        match control.send(&command, doing, PATIENCE).await? {
            Value::Nil => Ok(0),
            number => Ok(reply::number(number, doing)? as u16),
        }
    }

    /// Makes this shard, where nobody has used it yet and the first one says that the queue has as many as this process
    /// knows of; else that is [`Error::Deleted`]. A queue that is gone is made again as it was.
    pub(super) async fn make(&self) -> Result<()> {
        let known = self.whole().shards;
        let first = self.first();
        if first.call_open(known).await? != known
            || self.number() > 0 && self.call_open(known).await? != known
        {
            return Err(self.deleted());
        }
        Ok(())
    }

    /// Whether the queue has another number of shards by now than this process knows of.
    pub(super) async fn is_elsewhere(&self) -> Result<bool> {
        let has = self.first().count().await?;
        Ok(has != 0 && has != self.whole().shards)
    }

    /// The queue's first shard.
    fn first(&self) -> Self {
        Self::new(
            self.broker.clone(),
            self.queue.clone(),
            0,
            self.whole().first.clone(),
        )
    }

    pub(super) fn deleted(&self) -> Error {
        Error::Deleted {
            queue: self.queue.clone(),
        }
    }
}

/// Those of some tasks that are on one shard.
pub(super) struct Part<'a> {
    pub(super) shard: &'a Shard,
    pub(super) ids: Vec<TaskId>,
    /// Where each was among all.
    places: Vec<usize>,
}

impl<'a> Part<'a> {
    fn new(shard: &'a Shard) -> Self {
        Self {
            shard,
            ids: Vec::new(),
            places: Vec::new(),
        }
    }
}

/// The answers of all shards, each with one for each of its tasks, in the order in which the tasks were named.
pub(super) async fn gather<T>(
    parts: &[Part<'_>],
    calls: impl Iterator<Item = impl Future<Output = Result<Vec<T>>>>,
) -> Result<Vec<T>> {
    let mut placed = Vec::new();
    for (part, answers) in parts.iter().zip(join_all(calls).await) {
        placed.extend(part.places.iter().copied().zip(answers?));
    }
    placed.sort_by_key(|(place, _)| *place);
    Ok(placed.into_iter().map(|(_, answer)| answer).collect())
}

/// What all these calls answer, or the first error among them, once all are through.
pub(super) async fn all<T>(
    calls: impl Iterator<Item = impl Future<Output = Result<T>>>,
) -> Result<Vec<T>> {
    join_all(calls).await.into_iter().collect()
}
