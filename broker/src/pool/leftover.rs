//! Queues that one program has for workers of its own. Those whose process and workers were all killed are deleted by the
//! next program.

use uuid::Uuid;

use crate::broker::Broker;
use crate::error::Result;
use crate::ids::Name;
use crate::task_queue::TaskQueue;

const PREFIX: &str = "pool.";

/// A new task queue for workers that this process starts and nobody else knows. Deletes what killed programs left of such
/// queues.
pub async fn own_queue(broker: &Broker) -> Result<TaskQueue> {
    if let Err(error) = delete(broker).await {
        tracing::info!(target: "pmq", %error, "could not look for queues that killed programs left");
    }
    Ok(broker.task_queue(&name()?))
}

fn name() -> Result<Name> {
    Name::new(format!("{PREFIX}{}", Uuid::now_v7().simple()))
}

/// Deletes the queues of which neither the program nor a worker lives any more.
async fn delete(broker: &Broker) -> Result<()> {
    for name in broker.queues().await? {
        if is_ours(&name) {
            let queue = broker.task_queue(&name);
            if queue.is_deserted().await? {
                tracing::info!(target: "pmq", queue = %name, "deletes the queue of a program that was killed");
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
