//! I2: nothing runs that nobody submitted, and every run has the body that was submitted.

use std::collections::BTreeSet;

use pmq_broker::TaskId;

use super::{Invariant, Runs, Violation};
use crate::history::{Event, History, What};

/// What the harness made up: it must not run, but it may become a dead letter.
fn junk_of(event: &Event) -> Vec<TaskId> {
    match &event.what {
        What::Junk { ids } => ids.clone(),
        _ => Vec::new(),
    }
}

/// Finds phantoms.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let plans = Runs::of(history).plans;
    let junk: BTreeSet<TaskId> = history.events.iter().flat_map(junk_of).collect();
    let phantom = |event: &Event| {
        let (id, hash) = match &event.what {
            What::Start { id, hash, .. } => (id, Some(*hash)),
            What::Completion { id, .. } => (id, None),
            _ => return None,
        };
        let problem = match (plans.get(id), hash) {
            (None, None) if junk.contains(id) => return None,
            (None, _) => "was never submitted",
            (Some(plan), Some(hash)) if plan.hash != hash => "ran with another body",
            _ => return None,
        };
        Some(Violation::new(Invariant::NoPhantom, id, problem))
    };
    history.events.iter().filter_map(phantom).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn what_runs_was_submitted() {
        let mut events = submitted(&[1]);
        events.push(at(2, "w", start(1, 1, 7)));
        assert!(check(&history(events.clone())).is_empty());
        events.push(at(3, "w", start(2, 1, 7)));
        events.push(at(3, "c", done(2, 7)));
        assert_eq!(lines(&check(&history(events))), ["was never submitted"; 2]);
    }

    #[test]
    fn junk_becomes_a_dead_letter_and_never_runs() {
        let junk = at(1, "harness", What::Junk { ids: vec![id(3)] });
        let dead = at(2, "c", completion(3, 0, pmq_broker::Outcome::Dead));
        assert!(check(&history([junk.clone(), dead])).is_empty());
        assert_eq!(check(&history([junk, at(2, "w", start(3, 1, 7))])).len(), 1);
    }

    #[test]
    fn a_run_has_the_body_that_was_submitted() {
        let mut events = submitted(&[1]);
        let mut other = start(1, 1, 7);
        if let What::Start { hash, .. } = &mut other {
            *hash = 99;
        }
        events.push(at(2, "w", other));
        assert_eq!(lines(&check(&history(events))), ["ran with another body"]);
    }
}
