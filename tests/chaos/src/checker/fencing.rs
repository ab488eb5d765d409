//! I8a: the fences of a lock grow with each grant, and a store that asks for them accepts no smaller one.

use std::collections::BTreeMap;

use super::{Invariant, Violation};
use crate::history::{History, What};

/// A grant: when its call began, when it was answered, and its fence.
struct Grant {
    began: u64,
    answered: u64,
    fence: u64,
}

/// Finds fences that do not grow.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut grants: BTreeMap<&str, Vec<Grant>> = BTreeMap::new();
    let (mut found, mut highest) = (Vec::new(), BTreeMap::new());
    for event in &history.events {
        match &event.what {
            What::Acquired { lock, fence, began } => {
                let grant = Grant {
                    began: *began,
                    answered: event.t,
                    fence: *fence,
                };
                grants.entry(lock).or_default().push(grant);
            }
            What::Guarded {
                lock,
                fence,
                accepted: true,
            } => {
                let high = highest.entry(lock.as_str()).or_insert(*fence);
                if *fence < *high {
                    let what = format!("let fence {fence} write after {high}");
                    found.push(Violation::new(Invariant::Fencing, lock, what));
                }
                *high = (*high).max(*fence);
            }
            _ => {}
        }
    }
    found.extend(
        grants
            .iter()
            .filter_map(|(lock, grants)| check_lock(lock, grants)),
    );
    found
}

/// The first pair of grants of which the later has no higher fence. Calls that overlap may be in either order.
fn check_lock(lock: &str, grants: &[Grant]) -> Option<Violation> {
    let mut by_answer: Vec<&Grant> = grants.iter().collect();
    let mut by_begin = by_answer.clone();
    by_answer.sort_by_key(|grant| grant.answered);
    by_begin.sort_by_key(|grant| grant.began);
    let (mut highest, mut answers) = (0, by_answer.into_iter().peekable());
    for grant in by_begin {
        while let Some(earlier) = answers.next_if(|earlier| earlier.answered < grant.began) {
            highest = highest.max(earlier.fence);
        }
        if grant.fence <= highest {
            let what = format!("was granted with fence {} after {highest}", grant.fence);
            return Some(Violation::new(Invariant::Fencing, lock, what));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::history::Event;

    fn granted(ms: u64, fence: u64) -> Event {
        let began = (ms - 1) * 1_000_000;
        at(
            ms,
            "holder",
            What::Acquired {
                lock: "l".to_owned(),
                fence,
                began,
            },
        )
    }

    fn written(ms: u64, fence: u64) -> Event {
        at(
            ms,
            "store",
            What::Guarded {
                lock: "l".to_owned(),
                fence,
                accepted: true,
            },
        )
    }

    #[test]
    fn fences_grow() {
        assert!(check(&history([granted(1, 5), granted(3, 6)])).is_empty());
        for second in [4, 5] {
            assert_eq!(
                check(&history([granted(1, 5), granted(3, second)])).len(),
                1
            );
        }
    }

    #[test]
    fn grants_that_overlap_may_be_in_either_order() {
        let overlapping = [
            granted(2, 6),
            at(
                3,
                "other",
                What::Acquired {
                    lock: "l".to_owned(),
                    fence: 5,
                    began: 1_000_000,
                },
            ),
        ];
        assert!(check(&history(overlapping)).is_empty());
    }

    #[test]
    fn a_store_takes_no_smaller_fence() {
        assert!(check(&history([written(1, 5), written(2, 5), written(3, 6)])).is_empty());
        assert_eq!(check(&history([written(1, 6), written(2, 5)])).len(), 1);
    }
}
