//! Queues of pools whose process and workers were all killed: the next pool deletes them.

use uuid::Uuid;

use crate::broker::Broker;
use crate::error::Result;
use crate::ids::Name;

const PREFIX: &str = "pool.";

/// A name for the queue of a pool with workers of its own.
pub(super) fn name() -> Result<Name> {
    Name::new(format!("{PREFIX}{}", Uuid::now_v7().simple()))
}

/// Deletes the queues of pools of which neither the pool nor a worker lives any more.
pub(super) async fn delete(broker: &Broker) -> Result<()> {
    for name in broker.queues().await? {
        if is_ours(&name) {
            let queue = broker.task_queue(&name);
            if queue.is_deserted().await? {
                tracing::info!(target: "pmq", queue = %name, "deletes the queue of a pool that was killed");
                queue.delete().await?;
            }
        }
    }
    Ok(())
}

fn is_ours(name: &Name) -> bool {
    name.as_str()
        .strip_prefix(PREFIX)
        .is_some_and(|id| Uuid::try_parse(id).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_queues_of_pools_are_leftovers() {
        assert!(is_ours(&name().unwrap()));
        for other in ["default", "pool.mine", "map-0123"] {
            assert!(!is_ours(&Name::new(other).unwrap()), "{other}");
        }
    }
}
