//! One shard of a task queue: its keys, all in one slot, and the calls that touch nothing else.

use std::sync::Arc;

use super::desk::Desk;
use super::producer::Producer;
use crate::broker::Broker;
use crate::functions::Call;
use crate::ids::Name;
use crate::keys::ShardKeys;
use crate::sealing::Sealing;

/// One of the independent parts of a task queue. Most queues have one; it is where tasks are claimed and finished.
/// Clones are the same shard.
#[derive(Clone)]
pub struct Shard {
    pub(crate) broker: Broker,
    pub(super) queue: Name,
    number: usize,
    keys: Arc<ShardKeys>,
    sealing: Sealing,
    whole: Arc<Whole>,
    pub(super) desk: Arc<Desk>,
    pub(super) producer: Arc<Producer>,
}

/// The queue that a shard is a part of, as this process knows it.
pub(super) struct Whole {
    /// How many shards it has.
    pub(super) shards: u16,
    /// The keys of the first, which knows better.
    pub(super) first: Arc<ShardKeys>,
    /// What workers wait on where they can't wait on the lists of all shards at once.
    pub(super) wake_all: Option<[String; 2]>,
}

impl Shard {
    /// A shard, of a queue that has no other, unless it is told [otherwise](Self::part_of).
    pub(super) fn new(broker: Broker, queue: Name, number: usize, keys: Arc<ShardKeys>) -> Self {
        Self {
            sealing: broker.sealing(&queue),
            broker,
            queue,
            number,
            whole: Arc::new(Whole {
                shards: 1,
                first: keys.clone(),
                wake_all: None,
            }),
            keys,
            desk: Arc::default(),
            producer: Arc::default(),
        }
    }

    /// The name of the queue that it is a part of.
    #[must_use]
    pub fn queue(&self) -> &Name {
        &self.queue
    }

    /// Which of the queue's shards it is, 0 for the first.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Whether it is on a Redis Cluster, where the other shards of its queue may be on other servers.
    #[must_use]
    pub fn is_on_cluster(&self) -> bool {
        self.broker.is_cluster()
    }

    /// Whether it is on the same server as another, as far as this process knows: then neither answers where the other
    /// does not.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        let [a, b] = [self, other].map(|shard| shard.keys.fixed()[0].as_str());
        self.broker.control().is_together(a, b)
    }

    /// Its keys.
    #[must_use]
    pub fn keys(&self) -> &ShardKeys {
        &self.keys
    }

    /// How its tasks and completions are signed and verified.
    #[must_use]
    pub fn sealing(&self) -> &Sealing {
        &self.sealing
    }

    /// The same shard, of this queue.
    pub(super) fn part_of(self, whole: Arc<Whole>) -> Self {
        Self { whole, ..self }
    }

    /// The queue that it is a part of.
    pub(super) fn whole(&self) -> &Whole {
        &self.whole
    }

    /// The keys of the list that workers wait on, where it is that of the whole queue.
    pub(super) fn wake_all(&self) -> Option<&[String; 2]> {
        self.whole.wake_all.as_ref()
    }

    pub(crate) fn call(&self, verb: &'static str) -> Call {
        Call::new(verb, self.keys.fixed())
    }
}
