//! One shard of a task queue: its keys, all in one slot, and the calls that touch nothing else.

use std::sync::Arc;

use super::desk::Desk;
use crate::broker::Broker;
use crate::functions::Call;
use crate::ids::Name;
use crate::keys::ShardKeys;

/// One of the independent parts of a task queue. Most queues have one; it is where tasks are claimed and finished.
/// Clones are the same shard.
#[derive(Clone)]
pub struct Shard {
    pub(crate) broker: Broker,
    pub(super) queue: Name,
    number: usize,
    keys: Arc<ShardKeys>,
    pub(super) desk: Arc<Desk>,
}

impl Shard {
    pub(super) fn new(broker: Broker, queue: Name, number: usize, keys: Arc<ShardKeys>) -> Self {
        Self {
            broker,
            queue,
            number,
            keys,
            desk: Arc::default(),
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

    pub(crate) fn call(&self, verb: &'static str) -> Call {
        Call::new(verb, self.keys.fixed())
    }
}
