//! I6: at any moment each task of a queue is in exactly one state. A moment is one atomic read of the whole shard.

use std::collections::{BTreeMap, BTreeSet};

use pmq_broker::TaskId;

use super::{Invariant, Violation};
use crate::history::{History, What};

/// How many problems of one moment are told.
const TOLD: usize = 5;

/// Everything that a shard says of its tasks, read at one moment.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    /// Ids that have an envelope.
    pub tasks: BTreeSet<Vec<u8>>,
    /// Ids on the ready lists and that of suspects, as often as they stand there.
    pub ready: Vec<Vec<u8>>,
    /// Ids of the ready lists that are cancelled.
    pub holes: BTreeSet<Vec<u8>>,
    /// Delayed ids.
    pub scheduled: BTreeSet<Vec<u8>>,
    /// Running ids with their running values.
    pub running: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Dead letters.
    pub dead: BTreeSet<Vec<u8>>,
    /// Incarnations that have a lease, or had one and are being walked.
    pub workers: BTreeSet<Vec<u8>>,
    /// How many completions wait for somebody to get them.
    pub completions: u64,
}

impl Shard {
    /// How many ids of the ready lists are tasks.
    #[must_use]
    pub fn live_ready(&self) -> u64 {
        let live = |id: &&Vec<u8>| self.tasks.contains(*id) && !self.holes.contains(*id);
        self.ready.iter().filter(live).count() as u64
    }

    /// What is wrong, in words.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut places: BTreeMap<&[u8], Vec<&str>> = BTreeMap::new();
        for id in self.ready.iter().filter(|id| !self.holes.contains(*id)) {
            places.entry(id).or_default().push("ready");
        }
        for id in &self.scheduled {
            places.entry(id).or_default().push("scheduled");
        }
        for id in self.running.keys() {
            places.entry(id).or_default().push("running");
        }
        for id in &self.dead {
            places.entry(id).or_default().push("dead");
        }
        let nowhere = self
            .tasks
            .iter()
            .filter(|id| !places.contains_key(id.as_slice()));
        let mut problems: Vec<String> = nowhere
            .map(|id| format!("task {} is in no state", shown(id)))
            .collect();
        for (id, states) in &places {
            if states.len() > 1 {
                problems.push(format!("task {} is {}", shown(id), states.join(" and ")));
            } else if !self.tasks.contains(*id) {
                problems.push(format!("{} is {} but no task", shown(id), states[0]));
            }
        }
        for (id, value) in &self.running {
            let worker = value.get(..16).unwrap_or_default();
            if !self.workers.contains(worker) {
                let (id, worker) = (shown(id), shown(worker));
                problems.push(format!(
                    "task {id} runs under worker {worker}, which has no lease"
                ));
            }
        }
        problems.truncate(TOLD);
        problems
    }
}

fn shown(id: &[u8]) -> String {
    TaskId::from_slice(id).map_or_else(|| format!("{id:?}"), |id| id.to_string())
}

/// Finds moments at which a task was in no state or in two.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let wrong = |event: &crate::history::Event| match &event.what {
        What::Snapshot { queue, wrong, .. } if !wrong.is_empty() => {
            let id = wrong[0].split(' ').find(|word| word.len() == 36);
            let subject = id.unwrap_or(queue).to_owned();
            Some(Violation::new(
                Invariant::Conservation,
                subject,
                wrong.join("; "),
            ))
        }
        _ => None,
    };
    history.events.iter().filter_map(wrong).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> Vec<u8> {
        vec![n; 16]
    }

    fn shard() -> Shard {
        Shard {
            tasks: (1..=4).map(id).collect(),
            ready: vec![id(1), id(9)],
            holes: [id(9)].into(),
            scheduled: [id(2)].into(),
            running: [(id(3), id(50))].into(),
            dead: [id(4)].into(),
            workers: [id(50)].into(),
            completions: 0,
        }
    }

    #[test]
    fn each_task_is_in_one_state() {
        assert_eq!(shard().problems(), Vec::<String>::new());
        assert_eq!(shard().live_ready(), 1);
    }

    #[test]
    fn a_task_in_two_states_or_none_is_told() {
        let mut two = shard();
        two.scheduled.insert(id(3));
        assert!(two.problems()[0].ends_with("is scheduled and running"));
        let mut twice = shard();
        twice.ready.push(id(1));
        assert!(twice.problems()[0].ends_with("is ready and ready"));
        let mut none = shard();
        none.scheduled.clear();
        assert!(none.problems()[0].ends_with("is in no state"));
        let mut ghost = shard();
        ghost.tasks.remove(&id(1));
        assert!(ghost.problems()[0].ends_with("is ready but no task"));
    }

    #[test]
    fn what_runs_has_a_lease() {
        let mut orphan = shard();
        orphan.workers.clear();
        assert!(orphan.problems()[0].ends_with("which has no lease"));
    }
}
