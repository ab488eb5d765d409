//! I1: every acknowledged task ends, as done, dead or cancelled, and somebody gets its completion.

use std::collections::{BTreeMap, BTreeSet};

use pmq_broker::{Outcome, TaskId};

use super::{Invariant, Violation};
use crate::history::{History, Known, What};

/// When each task was last acknowledged, in ns.
pub(super) fn acknowledged(history: &History) -> BTreeMap<TaskId, u64> {
    let (mut open, mut acknowledged) = (BTreeMap::new(), BTreeMap::new());
    for event in &history.events {
        match &event.what {
            What::Submit { op, tasks, .. } => {
                open.insert((event.actor.as_str(), *op), tasks);
            }
            What::Submitted {
                op,
                outcome: Known::Ok,
                ..
            } => {
                for task in open
                    .remove(&(event.actor.as_str(), *op))
                    .into_iter()
                    .flatten()
                {
                    acknowledged.insert(task.id, event.t);
                }
            }
            _ => {}
        }
    }
    acknowledged
}

/// The tasks that are lost, whether a fault excuses it or not.
pub(super) fn lost(history: &History) -> Vec<(TaskId, u64, &'static str)> {
    let (mut got, mut finals) = (BTreeSet::new(), BTreeMap::new());
    for event in &history.events {
        match &event.what {
            // A task that is cancelled before it runs has no worker that names a completion queue.
            What::Completion { id, .. }
            | What::Final {
                id,
                outcome: Some(Outcome::Cancelled),
                ..
            } => {
                got.insert(*id);
            }
            What::Final { id, state, .. } => {
                finals.insert(*id, state.as_str());
            }
            _ => {}
        }
    }
    let acknowledged = acknowledged(history);
    let missing = acknowledged.into_iter().filter(|(id, _)| !got.contains(id));
    missing
        .map(|(id, t)| match finals.get(&id).copied() {
            Some("ended" | "dead") => (id, t, "ended, but nobody got its completion"),
            Some("unknown") | None => (id, t, "was acknowledged and is gone"),
            Some(_) => (id, t, "was acknowledged and has not ended"),
        })
        .collect()
}

/// Finds lost tasks.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let unexcused = lost(history)
        .into_iter()
        .filter(|(_, t, _)| !history.may_be_lost(*t));
    unexcused
        .map(|(id, _, what)| Violation::new(Invariant::NoLoss, id, what))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn every_acknowledged_task_ends() {
        let mut good = submitted(&[1, 2]);
        good.push(at(5, "consumer", done(1, 7)));
        let mut bad = good.clone();
        bad.push(at(9, "judge", finality(2, "unknown")));
        good.push(at(5, "consumer", done(2, 8)));
        assert!(check(&history(good)).is_empty());
        assert_eq!(
            lines(&check(&history(bad))),
            ["was acknowledged and is gone"]
        );
    }

    #[test]
    fn a_completion_that_nobody_got_is_lost() {
        let mut events = submitted(&[1]);
        events.push(at(9, "judge", finality(1, "ended")));
        assert_eq!(
            lines(&check(&history(events))),
            ["ended, but nobody got its completion"]
        );
    }

    #[test]
    fn what_was_not_acknowledged_may_be_missing() {
        for outcome in [Known::Info, Known::Fail] {
            let submit = at(0, "producer", submit(1, vec![planned(1)]));
            let answer = at(1, "producer", answered(1, outcome, ""));
            assert!(check(&history([submit, answer])).is_empty());
        }
    }

    #[test]
    fn a_fault_excuses_what_was_acknowledged_shortly_before() {
        let with_fault = |ms| {
            let mut events = submitted(&[1]);
            events.push(at(ms, "harness", fault("redis", loses(100))));
            check(&history(events)).len()
        };
        assert_eq!((with_fault(50), with_fault(500)), (0, 1));
    }
}
