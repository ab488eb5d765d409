//! A task queue: submit, claim, finish, and everything else that happens to a task.

mod admin;
mod cancel;
mod claim;
mod completions;
mod desk;
mod find;
mod finish;
mod hatch;
mod heartbeat;
mod lease;
mod owner;
mod producer;
mod reclaim;
mod release;
mod rotation;
mod shard;
mod shards;
mod start;
mod status;
mod strays;
mod submit;
mod wait;
mod wake;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

pub use admin::Settings;
pub use cancel::{Cancelled, Signal};
pub use claim::{Ask, Claim, Claimed, Claimer, Run};
pub use completions::Consumer;
pub use find::{DeadLetter, DeadLetters, Found, State};
pub use finish::{Finish, Finished, How};
pub use heartbeat::{Beat, Grant, Heartbeat, Order};
pub use owner::Owner;
pub(crate) use reclaim::Caretaker;
pub use reclaim::Reclaimed;
pub use release::Refused;
pub use rotation::Rotation;
pub use shard::Shard;
pub(crate) use shards::KnownQueues;
pub use shards::SHARDS_LIMIT;
pub use start::{Look, Started, StartedProcess};
pub use status::{QueueStatus, ShardStatus};
pub use submit::Submitted;
pub use wait::Ending;
pub use wake::{StopOrders, Waiter};

use crate::broker::Broker;
use crate::ids::Name;
use crate::keys::ShardKeys;
use crate::sealing::Sealing;

/// The lease of a worker or client, unless set: how long it may be silent before others take over.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(15);
/// The most tasks, completions or ids that one call moves; longer lists are sent in several.
pub const CHUNK: usize = 500;
/// The most bytes that one call moves, if it moves more than one item.
pub const CHUNK_BYTES: usize = 1 << 20;
/// The most ids that one call looks up, cancels or requeues.
const LOOKUP_CHUNK: usize = 100;

/// A named queue of tasks, made of one [`Shard`] or several. Clones are the same queue.
#[derive(Clone)]
pub struct TaskQueue {
    inner: Arc<Inner>,
}

struct Inner {
    /// The shard that every queue has, and that knows how many others there are.
    first: Shard,
    /// All of them, once that is known.
    shards: OnceCell<Vec<Shard>>,
    /// The same queue after it was deleted and made again with another number of shards.
    next: OnceLock<TaskQueue>,
}

impl TaskQueue {
    pub(crate) fn new(broker: Broker, name: Name) -> Self {
        let keys = Arc::new(ShardKeys::new(broker.namespace(), &name));
        let unknown = Self::over(Shard::new(broker, name, 0, keys), None);
        match unknown.known() {
            Some(shards) => Self::over(unknown.first().clone(), Some(shards)),
            None => unknown,
        }
    }

    fn over(first: Shard, shards: Option<Vec<Shard>>) -> Self {
        let shards = OnceCell::new_with(shards);
        Self {
            inner: Arc::new(Inner {
                first,
                shards,
                next: OnceLock::new(),
            }),
        }
    }

    /// The queue's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.first().queue()
    }

    /// The broker that it is on.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.first().broker
    }

    /// Its first shard, which every queue has.
    #[must_use]
    pub fn first(&self) -> &Shard {
        &self.inner.first
    }

    /// How its tasks and completions are signed and verified.
    #[must_use]
    pub fn sealing(&self) -> &Sealing {
        self.first().sealing()
    }
}

/// When a wait of this length is over; a day from now where it would never be.
pub(crate) fn deadline_after(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout)
        .unwrap_or(now + Duration::from_secs(86_400))
}

/// The ranges that cut items of these sizes into calls: at most 500 items and 1 MiB each, at least one item.
fn chunks(sizes: impl Iterator<Item = usize>) -> Vec<std::ops::Range<usize>> {
    let (mut ranges, mut start, mut bytes, mut end) = (Vec::new(), 0, 0, 0);
    for size in sizes {
        if end > start && (end - start == CHUNK || bytes + size > CHUNK_BYTES) {
            ranges.push(start..end);
            (start, bytes) = (end, 0);
        }
        bytes += size;
        end += 1;
    }
    if end > start {
        ranges.push(start..end);
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chunks_cover_everything_in_order(sizes in proptest::collection::vec(0usize..600_000, 0..2000)) {
            let ranges = chunks(sizes.iter().copied());
            prop_assert_eq!(ranges.iter().cloned().flatten().collect::<Vec<_>>(), (0..sizes.len()).collect::<Vec<_>>());
            for range in ranges {
                prop_assert!(range.len() <= CHUNK);
                prop_assert!(range.len() == 1 || sizes[range].iter().sum::<usize>() <= CHUNK_BYTES);
            }
        }
    }
}
