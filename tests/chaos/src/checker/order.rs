//! I7: what one producer submits to a queue at one priority is claimed in that order, as far as first runs go.

use std::collections::BTreeMap;

use super::{Invariant, Runs, Violation};
use crate::history::{History, What};

/// Queues whose workers write down what they claim, so that their order can be told.
const ORDERED: &str = "ordered";

/// Finds tasks that overtook.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let runs = Runs::of(history);
    let mut claimed = BTreeMap::new();
    for event in &history.events {
        if let What::Claimed { token, ids, .. } = &event.what {
            for (i, id) in ids.iter().enumerate() {
                claimed.entry(*id).or_insert((*token, i));
            }
        }
    }
    let mut last = BTreeMap::new();
    let (mut found, mut seen) = (Vec::new(), std::collections::BTreeSet::new());
    for event in &history.events {
        let What::Submit { queue, tasks, .. } = &event.what else {
            continue;
        };
        for task in tasks {
            let first_attempt = runs
                .by_task
                .get(&task.id)
                .is_some_and(|runs| runs[0].attempt == 1);
            let (Some(place), true) = (claimed.get(&task.id), first_attempt) else {
                continue;
            };
            if !queue.starts_with(ORDERED) || task.delay_ms > 0 || !seen.insert(task.id) {
                continue;
            }
            let line = last
                .entry((event.actor.as_str(), queue.as_str(), task.priority))
                .or_insert((*place, task.id));
            if line.0 > *place {
                let what = format!("was claimed before {}, which was submitted earlier", line.1);
                found.push(Violation::new(Invariant::Order, task.id, what));
            } else {
                *line = (*place, task.id);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::history::Event;

    fn run(order: [u8; 2]) -> Vec<Event> {
        let queue = "ordered".to_owned();
        let tasks = vec![planned(1), planned(2)];
        let mut events = vec![at(
            0,
            "producer",
            What::Submit {
                op: 1,
                queue: queue.clone(),
                tasks,
            },
        )];
        for (i, n) in order.iter().enumerate() {
            let token = 7 + i as u64;
            let claimed = What::Claimed {
                queue: queue.clone(),
                token,
                ids: vec![id(*n)],
            };
            events.push(at(token, "hand", claimed));
            events.push(at(token, "hand", start(*n, 1, token)));
        }
        events
    }

    #[test]
    fn first_in_is_first_out() {
        assert!(check(&history(run([1, 2]))).is_empty());
        assert_eq!(check(&history(run([2, 1]))).len(), 1);
    }
}
