//! Finding the queue of a task of which only the id is known.

use pmq_broker::task_queue::Ending;
use pmq_broker::{Broker, Error, Name, Process, ProcessError, TaskId, TaskQueue};

use crate::exit::Exit;
use crate::failure::Failure;

/// Tasks of one queue.
pub(crate) struct Located {
    pub(crate) queue: TaskQueue,
    pub(crate) ids: Vec<TaskId>,
}

/// Sorts ids by the queue that knows them: the one named, else each queue of the namespace is asked.
///
/// What nobody knows is listed with the named queue or, without one, with `default`. A queue that can't be read is passed
/// over, unless the task may be there.
pub(crate) async fn locate(
    broker: &Broker,
    queue: Option<&Name>,
    ids: &[TaskId],
) -> anyhow::Result<Vec<Located>> {
    if let Some(name) = queue {
        return Ok(vec![Located {
            queue: broker.task_queue(name),
            ids: ids.to_vec(),
        }]);
    }
    let default = Name::new("default")?;
    let mut names = broker.queues().await?;
    names.retain(|name| *name != default);
    names.insert(0, default);
    let mut found: Vec<Located> = Vec::new();
    let (mut left, mut unread) = (ids.to_vec(), None);
    for name in &names {
        if left.is_empty() {
            break;
        }
        let queue = broker.task_queue(name);
        let endings = match queue.watch(&left).await {
            Ok(endings) => endings,
            Err(error @ Error::Unexpected { .. }) => {
                unread.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let (known, unknown): (Vec<_>, Vec<_>) = left
            .into_iter()
            .zip(endings)
            .partition(|(_, ending)| *ending != Ending::Unknown);
        left = unknown.into_iter().map(|(id, _)| id).collect();
        if !known.is_empty() {
            let ids = known.into_iter().map(|(id, _)| id).collect();
            found.push(Located { queue, ids });
        }
    }
    if !left.is_empty() {
        if let Some(error) = unread {
            return Err(error.into());
        }
        let queue = broker.task_queue(&names[0]);
        found.push(Located { queue, ids: left });
    }
    Ok(found)
}

/// A handle to a task that was located.
pub(crate) async fn attach(queue: &TaskQueue, id: TaskId) -> anyhow::Result<Process> {
    match Process::attach(queue, id).await {
        Err(ProcessError::Unknown { .. }) => Err(unknown(id).into()),
        process => Ok(process?),
    }
}

/// Nothing is known of a task.
pub(crate) fn unknown(id: TaskId) -> Failure {
    Failure::new(Exit::FAILED, format!("no task {id} is known"))
        .with_hint("was it submitted to another queue or namespace, or did it end longer ago than the queue's retention time?")
}
