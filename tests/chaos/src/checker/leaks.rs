//! I11: when all is done and everybody has gone, nothing is left: no entries, connections, files or memory.

use std::collections::BTreeMap;

use super::{Invariant, Violation};
use crate::history::{History, What};

/// By how much more than at first a process may hold at last, in percent. Allocators keep some.
const GROWTH: u64 = 50;
/// What a process may hold more at last than at first, whatever it held: MiB, files.
const SLACK: u64 = 24;

/// Finds what was left behind or grew. What is counted `after` a run must be nothing; what is counted at the `start`
/// and at the `end` must be about as much.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let (mut starts, mut found) = (BTreeMap::new(), Vec::new());
    for event in &history.events {
        let What::Census {
            of,
            when,
            what,
            count,
        } = &event.what
        else {
            continue;
        };
        let key = (of.as_str(), what.as_str());
        match when.as_str() {
            "after" if *count > 0 => {
                let left = format!("has {count} {what} left");
                found.push(Violation::new(Invariant::Leaks, of, left));
            }
            "start" => {
                starts.insert(key, *count);
            }
            "end" => {
                let Some(before) = starts.get(&key) else {
                    continue;
                };
                if *count > before + before * GROWTH / 100 + SLACK {
                    let grew = format!("grew from {before} to {count} {what}");
                    found.push(Violation::new(Invariant::Leaks, of, grew));
                }
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

    fn census(when: &str, count: u64) -> crate::history::Event {
        let (of, what) = ("redis".to_owned(), "connections".to_owned());
        at(
            1,
            "harness",
            What::Census {
                of,
                when: when.to_owned(),
                what,
                count,
            },
        )
    }

    #[test]
    fn nothing_is_left_afterwards() {
        assert!(check(&history([census("after", 0)])).is_empty());
        assert_eq!(check(&history([census("after", 1)])).len(), 1);
    }

    #[test]
    fn nothing_grows_for_ever() {
        assert!(check(&history([census("start", 100), census("end", 110)])).is_empty());
        assert_eq!(
            check(&history([census("start", 100), census("end", 300)])).len(),
            1
        );
    }
}
