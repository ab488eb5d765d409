//! A task queue: submit, claim, finish, and everything else that happens to a task.

mod admin;
mod cancel;
mod claim;
mod completions;
mod desk;
mod find;
mod finish;
mod heartbeat;
mod lease;
mod reclaim;
mod release;
mod start;
mod status;
mod submit;
mod wait;
mod wake;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use admin::Settings;
pub use cancel::{Cancelled, Signal};
pub use claim::{Ask, Claim, Claimed, Claimer, Run};
pub use completions::{Consumer, Owner};
pub use find::{DeadLetter, Found, State};
pub use finish::{Finish, Finished, How};
pub use heartbeat::{Beat, Heartbeat, Order};
pub(crate) use reclaim::Caretaker;
pub use reclaim::Reclaimed;
pub use release::Refused;
pub use start::{Look, Started, StartedProcess};
pub use status::QueueStatus;
pub use submit::Submitted;
pub use wait::Ending;
pub use wake::{StopOrders, Waiter};

use crate::broker::Broker;
use crate::error::Result;
use crate::functions::Call;
use crate::ids::Name;
use crate::keys::ShardKeys;
use crate::sealing::Sealing;
use desk::Desk;

/// The lease of a worker or client, unless set: how long it may be silent before others take over.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(15);
/// The most tasks, completions or ids that one call moves; longer lists are sent in several.
pub const CHUNK: usize = 500;
/// The most bytes that one call moves, if it moves more than one item.
pub const CHUNK_BYTES: usize = 1 << 20;
/// The most ids that one call looks up, cancels or requeues.
const LOOKUP_CHUNK: usize = 100;

/// A named queue of tasks. Clones are the same queue.
#[derive(Clone)]
pub struct TaskQueue {
    broker: Broker,
    name: Name,
    keys: Arc<ShardKeys>,
    sealing: Sealing,
    desk: Arc<Desk>,
}

impl TaskQueue {
    pub(crate) fn new(broker: Broker, name: Name) -> Self {
        let keys = Arc::new(ShardKeys::new(broker.namespace(), &name));
        Self {
            sealing: broker.sealing(&name),
            broker,
            name,
            keys,
            desk: Arc::default(),
        }
    }

    /// The queue's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The broker that it is on.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Puts the queue on the list of queues, which submitting does as well.
    pub async fn register(&self) -> Result<()> {
        self.broker.register(&self.name).await
    }

    /// The queue's keys.
    #[must_use]
    pub fn keys(&self) -> &ShardKeys {
        &self.keys
    }

    /// How its tasks and completions are signed and verified.
    #[must_use]
    pub fn sealing(&self) -> &Sealing {
        &self.sealing
    }

    pub(crate) fn call(&self, verb: &'static str) -> Call {
        Call::new(verb, self.keys.fixed())
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
