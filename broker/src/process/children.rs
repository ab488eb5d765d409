//! The children of this process: what it has started, and the leases under which its daemons live.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime;

use super::current::scoped_children;
use super::{Bond, Facts, Handle, Process, Result};
use crate::broker::Broker;
use crate::error;
use crate::ids::{Incarnation, Name, TaskId};
use crate::task::{Task, Work};
use crate::task_queue::{Owner, Signal, TaskQueue};

/// The processes that this one has started, and its lease on each queue that they went to.
#[derive(Default)]
pub(crate) struct Children {
    /// One a queue, shared by all children there. They hold connections of their own, not the broker that holds this.
    owners: tokio::sync::Mutex<HashMap<Name, Owner>>,
    known: Mutex<Vec<Child>>,
}

/// A process that this one has started.
#[derive(Clone)]
pub(super) struct Child {
    pub(super) queue: Name,
    pub(super) id: TaskId,
    pub(super) name: String,
    pub(super) daemon: bool,
    /// Whether it ends with this process, as daemons do.
    pub(super) tied: bool,
    pub(super) facts: Arc<Facts>,
}

/// The children of what runs here: of the handler's process, else of this program.
pub(super) fn children_of(broker: &Broker) -> Arc<Children> {
    scoped_children().unwrap_or_else(|| broker.children().clone())
}

/// The children of this process that live. In Python this is `active_children`.
///
/// A handler's children are its own; those of plain tasks are their worker's.
pub async fn active_children(broker: &Broker) -> Result<Vec<Process>> {
    children_of(broker).living(broker).await
}

/// Ends this process as a parent: terminates its daemons, and joins its other children. Python does this at the end of
/// every program; here a program that wants it calls it last. Without it, daemons end with the parent's lease, 15 s later.
pub async fn at_exit(broker: &Broker) -> Result<()> {
    end_as_parent(broker, true).await
}

/// As [`at_exit`], but leaves the other children running.
pub async fn leave(broker: &Broker) -> Result<()> {
    end_as_parent(broker, false).await
}

async fn end_as_parent(broker: &Broker, join: bool) -> Result<()> {
    let children = children_of(broker);
    let living = children.living(broker).await?;
    for child in living.iter().filter(|child| child.bond != Bond::Free) {
        child.terminate().await?;
    }
    for child in living
        .iter()
        .filter(|child| join && child.bond == Bond::Free)
    {
        child.join().await?;
    }
    let owners = std::mem::take(&mut *children.owners.lock().await);
    for owner in owners.into_values() {
        owner.close().await?;
    }
    Ok(())
}

impl Children {
    /// The client that owns this process's daemons on a queue, and whose lease says that this process lives.
    pub(super) async fn client(&self, queue: &TaskQueue) -> error::Result<Incarnation> {
        let mut owners = self.owners.lock().await;
        if let Some(owner) = owners.get(queue.name())
            && !owner.is_lost()
        {
            return Ok(owner.incarnation());
        }
        let apart = queue.broker().apart();
        let owner = apart.task_queue(queue.name()).join_as_parent().await?;
        let client = owner.incarnation();
        owners.insert(queue.name().clone(), owner);
        Ok(client)
    }

    /// Adds a child, and forgets those that are known to have ended.
    pub(super) fn add(&self, child: Child) {
        let mut known = self.known();
        known.retain(|child| child.facts.ended.get().is_none());
        known.push(child);
    }

    async fn living(&self, broker: &Broker) -> Result<Vec<Process>> {
        let known = self.known().clone();
        let mut living = Vec::new();
        for child in known {
            let queue = broker.task_queue(&child.queue);
            let handle = Handle::new(&queue, child.id, child.facts);
            if handle.ended().await?.is_none() {
                let task = Task {
                    id: child.id,
                    ..Task::of(Work::Command(Vec::new()))
                };
                let process = Process::known(handle, task, child.name, child.daemon);
                living.push(process.tied(child.tied));
            }
        }
        self.known()
            .retain(|child| child.facts.ended.get().is_none());
        Ok(living)
    }

    fn known(&self) -> MutexGuard<'_, Vec<Child>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Daemons are terminated where that is still possible; else they end with the lease.
impl Drop for Children {
    fn drop(&mut self) {
        let Ok(runtime) = runtime::Handle::try_current() else {
            return;
        };
        let known = std::mem::take(self.known.get_mut().unwrap_or_else(PoisonError::into_inner));
        for (name, owner) in self.owners.get_mut().drain() {
            let daemons: Vec<TaskId> = known
                .iter()
                .filter(|child| {
                    child.tied && child.queue == name && child.facts.ended.get().is_none()
                })
                .map(|child| child.id)
                .collect();
            runtime.spawn(terminate(owner, daemons));
        }
    }
}

async fn terminate(owner: Owner, daemons: Vec<TaskId>) {
    let stopped = owner.queue().cancel(&daemons, Signal::Terminate).await;
    if let Err(error) = stopped.and(owner.close().await) {
        tracing::debug!(target: "pmq", %error, "could not end daemons; they end with the lease");
    }
}
