//! I2: nothing runs that nobody submitted, and every run has the body that was submitted.

use super::{Invariant, Runs, Violation};
use crate::history::{History, What};

/// Finds phantoms.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let plans = Runs::of(history).plans;
    let phantom = |event: &crate::history::Event| {
        let (id, hash) = match &event.what {
            What::Start { id, hash, .. } => (id, Some(*hash)),
            What::Completion { id, .. } => (id, None),
            _ => return None,
        };
        let problem = match (plans.get(id), hash) {
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
