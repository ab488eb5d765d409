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
    /// What workers wait on where they can't wait on the lists of all shards at once.
    wake_all: Option<Arc<[String; 2]>>,
    pub(super) desk: Arc<Desk>,
    pub(super) producer: Arc<Producer>,
}

impl Shard {
    pub(super) fn new(broker: Broker, queue: Name, number: usize, keys: Arc<ShardKeys>) -> Self {
        Self {
            sealing: broker.sealing(&queue),
            broker,
            queue,
            number,
            keys,
            wake_all: None,
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

    /// The same shard, of a queue whose workers wait on this list.
    pub(super) fn with_wake_all(self, keys: Option<Arc<[String; 2]>>) -> Self {
        Self {
            wake_all: keys,
            ..self
        }
    }

    /// The keys of the list that workers wait on, where it is that of the whole queue.
    pub(super) fn wake_all(&self) -> Option<&[String; 2]> {
        self.wake_all.as_deref()
    }

    pub(crate) fn call(&self, verb: &'static str) -> Call {
        Call::new(verb, self.keys.fixed())
    }
}
