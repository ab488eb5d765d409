//! I3: at most one completion of a task is ever accepted, however often it is read.

use std::collections::BTreeMap;

use pmq_broker::TaskId;

use super::{Invariant, Violation};
use crate::history::{History, Known, What};

/// An end that the broker accepted: its token, and what tells it from another one under the same token.
type Accepted = (u64, Option<(pmq_broker::Outcome, u64)>);

/// The ends of each task, with when they were seen.
fn ends(history: &History) -> BTreeMap<TaskId, Vec<(Accepted, u64)>> {
    let mut ends: BTreeMap<TaskId, Vec<(Accepted, u64)>> = BTreeMap::new();
    for event in &history.events {
        let (id, end) = match &event.what {
            What::Completion {
                id,
                token,
                outcome,
                finished_us,
                ..
            } => (*id, (*token, Some((*outcome, *finished_us)))),
            What::Waited { id, token } => (*id, (*token, None)),
            What::Finished {
                id,
                token,
                outcome: Known::Ok,
                answer,
            } if answer == "ended" || answer == "buried" => (*id, (*token, None)),
            _ => continue,
        };
        ends.entry(id).or_default().push((end, event.t));
    }
    ends
}

/// Whether both tell of the same end.
fn same(one: Accepted, other: Accepted) -> bool {
    one.0 == other.0 && (one.1.is_none() || other.1.is_none() || one.1 == other.1)
}

/// Finds second completions.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let second = |(id, ends): (TaskId, Vec<(Accepted, u64)>)| {
        let (first, _) = ends[0];
        let (other, _) = ends
            .iter()
            .find(|(end, t)| !same(first, *end) && !history.went_back_before(*t))?;
        let what = format!("ended under token {} and again under {}", first.0, other.0);
        Some(Violation::new(Invariant::SingleEnd, id, what))
    };
    ends(history).into_iter().filter_map(second).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn the_same_completion_may_be_read_twice() {
        let events = [at(1, "c", done(1, 7)), at(2, "d", done(1, 7))];
        assert!(check(&history(events)).is_empty());
    }

    #[test]
    fn two_completions_are_one_too_many() {
        let events = [at(1, "c", done(1, 7)), at(2, "c", done(1, 8))];
        assert_eq!(check(&history(events)).len(), 1);
        let finished = |answer: &str| What::Finished {
            id: id(1),
            token: 6,
            outcome: Known::Ok,
            answer: answer.to_owned(),
        };
        let with = |answer| {
            check(&history([
                at(1, "c", done(1, 7)),
                at(2, "w", finished(answer)),
            ]))
        };
        assert_eq!((with("ended").len(), with("lost").len()), (1, 0));
    }

    #[test]
    fn after_the_state_went_back_a_task_may_end_again() {
        let fault = at(2, "harness", fault("redis", loses(1000)));
        let events = [at(1, "c", done(1, 7)), fault, at(3, "c", done(1, 8))];
        assert!(check(&history(events)).is_empty());
    }
}
