//! I11: when all is done and everybody has gone, nothing is left: no entries, connections, files or memory.

use std::collections::BTreeMap;

use super::{Invariant, Terms, Violation};
use crate::history::{History, What};

/// By how much more than at first a process may hold at last, in percent. Allocators keep some.
const GROWTH: u64 = 20;
/// How many runs may be under way when a completion queue is full, and end.
const UNDER_WAY: u64 = 100;
/// How many calls an idle worker may make while its server comes back, and in the ten seconds after: it connects,
/// claims once, and waits twice.
const CALLS: u64 = 12;
/// What a process may hold more at last than at first, whatever it held: MiB, files.
const SLACK: u64 = 8;

/// Finds what was left behind or grew. What is counted `after` a run must be nothing; what is counted at the `start`
/// and at the `end` must be about as much; what is counted per `idle` worker is bounded, and so are completions.
pub(super) fn check(history: &History, terms: &Terms) -> Vec<Violation> {
    let mut starts = BTreeMap::new();
    let mut found: Vec<Violation> = check_completions(history, terms).into_iter().collect();
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
            "idle" if *count > CALLS => {
                let busy = format!("got {count} {what}");
                found.push(Violation::new(Invariant::Leaks, of, busy));
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

/// A completion queue that is full takes no more than what was under way.
fn check_completions(history: &History, terms: &Terms) -> Option<Violation> {
    let limit = terms.completions_max? + UNDER_WAY;
    history.events.iter().find_map(|event| match &event.what {
        What::Snapshot {
            queue, completions, ..
        } if *completions > limit => {
            let over = format!("holds {completions} completions");
            Some(Violation::new(Invariant::Leaks, queue, over))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn found(history: &History) -> Vec<Violation> {
        check(history, &Terms::default())
    }

    #[test]
    fn an_idle_worker_makes_few_calls() {
        assert!(found(&history([census("idle", CALLS)])).is_empty());
        assert_eq!(found(&history([census("idle", CALLS + 1)])).len(), 1);
    }

    #[test]
    fn a_full_completion_queue_takes_no_more() {
        let terms = Terms {
            completions_max: Some(10),
            ..Terms::default()
        };
        let holds = |completions| {
            let snapshot = What::Snapshot {
                queue: "q".to_owned(),
                tasks: 0,
                ready: 0,
                scheduled: 0,
                running: 0,
                dead: 0,
                completions,
                wrong: Vec::new(),
            };
            check(&history([at(1, "harness", snapshot)]), &terms).len()
        };
        assert_eq!((holds(10 + UNDER_WAY), holds(11 + UNDER_WAY)), (0, 1));
    }

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
        assert!(found(&history([census("after", 0)])).is_empty());
        assert_eq!(found(&history([census("after", 1)])).len(), 1);
    }

    #[test]
    fn nothing_grows_for_ever() {
        assert!(found(&history([census("start", 100), census("end", 110)])).is_empty());
        assert_eq!(
            found(&history([census("start", 100), census("end", 300)])).len(),
            1
        );
    }
}
