//! I9: who waits for a task learns of its end in time, also where the news of it was lost.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Invariant, Terms, Violation};
use crate::history::{Event, History, What};

/// Finds who learned too late.
pub(super) fn check(history: &History, terms: &Terms) -> Vec<Violation> {
    let (mut ends, mut found) = (BTreeMap::new(), Vec::new());
    for event in &history.events {
        match &event.what {
            What::Effect { id, token, .. } => {
                ends.insert((*id, *token), event.t);
            }
            What::Waited { id, token } => {
                let Some(end) = ends.get(&(*id, *token)) else {
                    continue;
                };
                let after = Duration::from_nanos(event.t - end);
                if after > terms.resumes && !is_disturbed(history, *end, event) {
                    let what = format!("had ended {after:?} before its waiter knew");
                    found.push(Violation::new(Invariant::Liveness, id, what));
                }
            }
            _ => {}
        }
    }
    found
}

/// Whether the waiter or the broker stood still meanwhile, or shortly before.
fn is_disturbed(history: &History, end: u64, waited: &Event) -> bool {
    const SHORTLY: u64 = 5_000_000_000;
    let since = end.saturating_sub(SHORTLY);
    history.events.iter().any(|event| {
        let meanwhile = event.t > since && event.t < waited.t;
        meanwhile
            && match &event.what {
                What::Fault { target, name, .. } => {
                    (target == "broker" && name != "drop the subscribers")
                        || target == "*"
                        || *target == waited.actor
                }
                What::Stall { .. } => true,
                _ => false,
            }
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::history::Effects;

    #[test]
    fn a_waiter_learns_of_an_end_in_time() {
        let (id, token) = (id(1), 7);
        let learns = |ms, other: Option<Event>| {
            let effect = What::Effect {
                id,
                attempt: 1,
                token,
            };
            let waited = at(ms, "waiter", What::Waited { id, token });
            let events = [at(0, "w", effect), waited].into_iter().chain(other);
            check(&history(events), &Terms::default()).len()
        };
        assert_eq!((learns(4000, None), learns(6000, None)), (0, 1));
        let outage = at(3000, "harness", fault("broker", Effects::default()));
        assert_eq!(learns(6000, Some(outage)), 0);
    }
}
