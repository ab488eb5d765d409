//! I10: a task that is submitted twice is one, and another one under its id is a conflict.

use std::collections::BTreeMap;

use super::{Invariant, Violation};
use crate::history::{History, Known, What};

/// Finds tasks that were taken in twice.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let (mut open, mut new) = (BTreeMap::new(), BTreeMap::new());
    let mut found = Vec::new();
    for event in &history.events {
        match &event.what {
            What::Submit { op, tasks, .. } => {
                open.insert((event.actor.as_str(), *op), tasks);
            }
            What::Submitted {
                op,
                outcome: Known::Ok,
                letters,
                ..
            } => {
                let tasks = open
                    .remove(&(event.actor.as_str(), *op))
                    .into_iter()
                    .flatten();
                for (task, letter) in tasks.zip(letters.bytes()) {
                    if letter == b'n'
                        && new.insert(task.id, event.t).is_some()
                        && !history.went_back_before(event.t)
                    {
                        let what = "was taken for new twice";
                        found.push(Violation::new(Invariant::Idempotence, task.id, what));
                    }
                }
            }
            What::Clash {
                id,
                outcome: Known::Ok,
            } if !history.went_back_before(event.t) => {
                let what = "was taken with other content under its id";
                found.push(Violation::new(Invariant::Idempotence, id, what));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_task_is_new_once() {
        let again = |letter| {
            let mut events = submitted(&[1]);
            events.push(at(2, "producer", submit(2, vec![planned(1)])));
            events.push(at(3, "producer", answered(2, Known::Ok, letter)));
            check(&history(events)).len()
        };
        assert_eq!((again("e"), again("d"), again("n")), (0, 0, 1));
    }

    #[test]
    fn other_content_is_a_conflict() {
        let clash =
            |outcome| check(&history([at(1, "p", What::Clash { id: id(1), outcome })])).len();
        assert_eq!(
            (clash(Known::Fail), clash(Known::Info), clash(Known::Ok)),
            (0, 0, 1)
        );
    }
}
