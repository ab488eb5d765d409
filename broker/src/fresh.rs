//! Which tasks have never been in a call.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::ids::TaskId;

/// Whether a task is certainly new: pmq made its id, and it was never given to a call, whatever became of that. So nobody
/// can know it, and the broker need not be asked. Of a task and its copy none is fresh, as the other one may go first.
#[derive(Debug)]
pub struct Fresh(AtomicU64);

impl Fresh {
    /// Of a task with an id that was made just now.
    pub(crate) fn new(id: &TaskId) -> Self {
        Self(AtomicU64::new(random_part(id)))
    }

    /// Of a task that somebody may know.
    pub(crate) fn known() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether a task of this id was fresh. It is not from now on.
    pub(crate) fn spend(&self, id: &TaskId) -> bool {
        self.0.swap(0, Ordering::Relaxed) == random_part(id)
    }
}

/// The random part of an id, which tells whether a task got another one; never 0, as it holds the id's variant.
fn random_part(id: &TaskId) -> u64 {
    let bytes = u128::from_be_bytes(*id.as_bytes());
    (bytes >> 16) as u64 // without the deal
}

impl Clone for Fresh {
    fn clone(&self) -> Self {
        self.0.store(0, Ordering::Relaxed);
        Self::known()
    }
}

/// A task is the same before and after it was submitted.
impl PartialEq for Fresh {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Fresh {}

#[cfg(test)]
mod tests {
    use crate::{Task, TaskId};

    fn spend(task: &Task) -> bool {
        task.fresh.spend(&task.id)
    }

    #[test]
    fn a_task_is_fresh_once() {
        let task = Task::handler("t", "1");
        assert!(spend(&task));
        assert!(!spend(&task));
        let keyed = Task::handler("t", "1").with_key("customer-7");
        assert!(spend(&keyed), "only its deal is another");
    }

    #[test]
    fn neither_a_task_nor_its_copy_is_fresh() {
        let task = Task::handler("t", "1");
        let copy = task.clone();
        assert!(!spend(&copy) && !spend(&task));
        assert!(!spend(&copy.clone()));
    }

    #[test]
    fn a_task_with_another_id_is_not_fresh() {
        let named = Task::handler("t", "1").with_id(TaskId::new());
        assert!(!spend(&named));
        let mut renamed = Task::handler("t", "1");
        renamed.id = TaskId::new();
        assert!(!spend(&renamed));
    }
}
