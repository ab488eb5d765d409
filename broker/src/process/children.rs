//! The children of this process: what it has started, and the leases under which its daemons live.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime;

use super::current::scoped_children;
use super::{Facts, Handle, Process, ProcessError, Result};
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

/// All daemons have their order before it waits for any. An error of one child, the first of which is answered, concerns
/// no other.
async fn end_as_parent(broker: &Broker, join: bool) -> Result<()> {
    let children = children_of(broker);
    let known = children.known().clone();
    let (daemons, others): (Vec<_>, Vec<_>) = known.into_iter().partition(|child| child.tied);
    let (stopped, mut ended) = order_to_end(broker, daemons).await;
    for child in stopped.iter().chain(others.iter().filter(|_| join)) {
        ended = ended.and(child.end(broker).await);
    }
    let owners = std::mem::take(&mut *children.owners.lock().await);
    for owner in owners.into_values() {
        ended = ended.and(owner.close().await.map_err(Into::into));
    }
    ended
}

/// Orders these to end, all of a queue at once. Answers which have their order; the others end with the parent's lease.
async fn order_to_end(broker: &Broker, daemons: Vec<Child>) -> (Vec<Child>, Result<()>) {
    let mut queues: HashMap<Name, Vec<Child>> = HashMap::new();
    for child in daemons {
        let queue = queues.entry(child.queue.clone()).or_default();
        queue.push(child);
    }
    let (mut ordered, mut ended) = (Vec::new(), Ok(()));
    for (queue, children) in queues {
        let ids: Vec<TaskId> = children.iter().map(|child| child.id).collect();
        let queue = broker.task_queue(&queue);
        match queue.cancel(&ids, Signal::Terminate).await {
            Ok(_) => ordered.extend(children),
            Err(error) => ended = ended.and(Err(error.into())),
        }
    }
    (ordered, ended)
}

impl Child {
    fn handle(&self, broker: &Broker) -> Handle {
        let queue = broker.task_queue(&self.queue);
        Handle::new(&queue, self.id, self.facts.clone())
    }

    /// Waits for its end; one of which nothing is known any more has ended.
    async fn end(&self, broker: &Broker) -> Result<()> {
        match self.handle(broker).end(None).await {
            Ok(_) | Err(ProcessError::Unknown { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
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
        let (mut living, mut forgotten) = (Vec::new(), Vec::new());
        for child in known {
            let handle = child.handle(broker);
            let ended = match handle.ended().await {
                Err(ProcessError::Unknown { id, .. }) => {
                    forgotten.push(id);
                    continue;
                }
                ended => ended?,
            };
            if ended.is_none() {
                let task = Task {
                    id: child.id,
                    ..Task::of(Work::Command(Vec::new()))
                };
                let process = Process::known(handle, task, child.name, child.daemon);
                living.push(process.tied(child.tied));
            }
        }
        self.known()
            .retain(|child| child.facts.ended.get().is_none() && !forgotten.contains(&child.id));
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
