//! How long it takes until the tasks of a killed worker run elsewhere.

use std::time::Duration;

use pmq_broker::TaskId;
use pmq_broker::task::DEFAULT_PRIORITY;

use super::Runs;
use crate::history::{Event, History, What};

/// A run that was cut off by the death of its worker.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The task.
    pub id: TaskId,
    /// The worker that died.
    pub actor: String,
    /// When it died, in ns.
    pub died: u64,
    /// After how long the task ran elsewhere.
    pub after: Duration,
    /// Which run it was then: from the third on it may be a suspect, which waits for others.
    pub attempt: u16,
}

/// How the names of the faults begin by which a worker dies at once.
pub(crate) const KILL: &str = "kill";

/// The deaths of workers and what became of the tasks that they ran.
#[must_use]
pub fn recoveries(history: &History) -> Vec<Recovery> {
    let runs = Runs::of(history);
    let mut recoveries = Vec::new();
    for (actor, died) in deaths(history) {
        for task in runs.by_task.values() {
            let cut = task.iter().any(|run| {
                run.actor == actor && run.start < died && run.end.is_none_or(|(t, _)| t > died)
            });
            let next = task.iter().find(|run| run.start > died);
            // One of a low priority waits for its turn, also when it has come back.
            let urgent = |id| {
                runs.plans
                    .get(id)
                    .is_none_or(|plan| plan.priority >= DEFAULT_PRIORITY)
            };
            if let (true, Some(next)) = (cut, next.filter(|next| urgent(&next.id))) {
                recoveries.push(Recovery {
                    id: next.id,
                    actor: actor.to_owned(),
                    died,
                    after: Duration::from_nanos(next.start - died),
                    attempt: next.attempt,
                });
            }
        }
    }
    recoveries
}

/// Who was killed, and when.
fn deaths(history: &History) -> impl Iterator<Item = (&str, u64)> {
    history
        .events
        .iter()
        .filter_map(|event: &Event| match &event.what {
            What::Fault {
                name,
                target,
                on: true,
                ..
            } if name.starts_with(KILL) => Some((target.as_str(), event.t)),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::history::{Effects, RunEnd};

    #[test]
    fn the_time_from_a_death_to_the_next_run_is_told() {
        let kill = What::Fault {
            name: KILL.to_owned(),
            target: "v".to_owned(),
            on: true,
            effects: Effects::default(),
        };
        let events = [
            at(1, "v", start(1, 1, 7)),
            at(1, "v", start(2, 1, 7)),
            at(2, "v", end(2, 7, RunEnd::Ok)),
            at(5, "harness", kill),
            at(25, "w", start(1, 2, 8)),
        ];
        let found = recoveries(&history(events));
        assert_eq!(
            (found.len(), found[0].after),
            (1, Duration::from_millis(20))
        );
    }
}
