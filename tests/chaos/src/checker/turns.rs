//! I9: while nothing keeps the workers or the broker from it, a task begins soon after it is due. Where all hands are
//! busy it waits for its turn, which is no fault.

use std::collections::BTreeMap;
use std::time::Duration;

use pmq_broker::TaskId;

use super::loss::acknowledged;
use super::{Invariant, Runs, Terms, Violation};
use crate::history::{Event, History, What};

/// How much longer than a lease a task may wait while there are free hands.
const PATIENCE: Duration = Duration::from_secs(3);
/// With so few tasks ready, each of them is next.
const FEW: u64 = 5;

/// Finds tasks that waited for no reason.
pub(super) fn check(history: &History, terms: &Terms) -> Vec<Violation> {
    let runs = Runs::of(history);
    let queues = queues(history);
    let limit = (terms.lease + PATIENCE).as_nanos() as u64;
    let hindrances: Vec<u64> = history
        .events
        .iter()
        .filter(|event| hinders(event))
        .map(|event| event.t)
        .collect();
    let (looks, mut found) = (Looks::of(history), Vec::new());
    for (id, t) in acknowledged(history) {
        let (Some(plan), Some(task)) = (runs.plans.get(&id), runs.by_task.get(&id)) else {
            continue;
        };
        let Some(first) = task.iter().map(|run| run.start).min() else {
            continue;
        };
        let due = t + plan.delay_ms * 1_000_000;
        let free = !hindrances.iter().any(|at| *at + limit > due && *at < first);
        if !free || first <= due + limit {
            continue;
        }
        let idle = looks.idle(queues.get(&id).copied(), due, first);
        if idle > limit {
            let what = format!("was due for {:?} before it ran", Duration::from_nanos(idle));
            found.push(Violation::new(Invariant::Liveness, id, what));
        }
    }
    found
}

/// Whether something keeps workers or the broker from their work.
fn hinders(event: &Event) -> bool {
    match &event.what {
        What::Fault {
            target,
            effects,
            name,
            ..
        } => effects.ends_leases || name == "pause" || target == "broker" || target == "*",
        What::Stall { .. } => true,
        _ => false,
    }
}

/// The queue of each task.
fn queues(history: &History) -> BTreeMap<TaskId, &str> {
    let mut queues = BTreeMap::new();
    for event in &history.events {
        if let What::Submit { queue, tasks, .. } = &event.what {
            queues.extend(tasks.iter().map(|task| (task.id, queue.as_str())));
        }
    }
    queues
}

/// What was seen of the queues, look by look.
#[derive(Default)]
struct Looks<'a> {
    /// When it was looked at each queue, how many of its tasks were ready, and how many tasks ran in all queues.
    of_queue: BTreeMap<&'a str, Vec<(u64, u64, u64)>>,
    /// The most that ever ran.
    most: u64,
}

impl<'a> Looks<'a> {
    fn of(history: &'a History) -> Self {
        let (mut looks, mut runs) = (Self::default(), BTreeMap::new());
        for event in &history.events {
            if let What::Snapshot {
                queue,
                ready,
                running,
                ..
            } = &event.what
            {
                runs.insert(queue.as_str(), *running);
                let all = runs.values().sum();
                looks.most = looks.most.max(all);
                let of_queue = looks.of_queue.entry(queue).or_default();
                of_queue.push((event.t, *ready, all));
            }
        }
        looks
    }

    /// For how long between these times there were free hands, or few tasks in this queue; all of the time where
    /// nobody looked.
    fn idle(&self, queue: Option<&str>, from: u64, to: u64) -> u64 {
        let looks = queue.and_then(|queue| self.of_queue.get(queue));
        let Some(looks) = looks else {
            return to - from;
        };
        let (mut last, mut idle) = (from, 0);
        for (t, ready, runs) in looks.iter().filter(|(t, ..)| (from..to).contains(t)) {
            if *ready <= FEW || runs * 2 < self.most {
                idle += t - last;
            }
            last = *t;
        }
        idle
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::history::Effects;

    fn found(events: Vec<Event>) -> usize {
        check(&history(events), &Terms::default()).len()
    }

    #[test]
    fn a_task_does_not_wait_for_no_reason() {
        let waits = |ms, more: Option<Event>| {
            let events = submitted(&[1])
                .into_iter()
                .chain([at(ms, "w", start(1, 1, 7))]);
            found(events.chain(more).collect())
        };
        assert_eq!((waits(5000, None), waits(9000, None)), (0, 1));
        let outage = at(4000, "harness", fault("broker", Effects::default()));
        assert_eq!(waits(9000, Some(outage)), 0);
    }

    #[test]
    fn a_task_waits_for_its_turn_while_all_hands_are_busy() {
        let waits = |ready, running| {
            let looks = (1..9).map(|s| {
                let snapshot = What::Snapshot {
                    queue: "q".to_owned(),
                    tasks: ready + running,
                    ready,
                    scheduled: 0,
                    running: if s == 1 { 10 } else { running },
                    dead: 0,
                    completions: 0,
                    wrong: Vec::new(),
                };
                at(s * 1000 + 1, "harness", snapshot)
            });
            let run = [at(9000, "w", start(1, 1, 7))];
            found(
                submitted(&[1])
                    .into_iter()
                    .chain(looks)
                    .chain(run)
                    .collect(),
            )
        };
        assert_eq!((waits(100, 10), waits(100, 1), waits(1, 10)), (0, 1, 1));
    }
}
