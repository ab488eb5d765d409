//! What a run came to: its violations, and the numbers for the report.

use std::time::Duration;

use super::{Runs, Terms, Violation, check, loss, recoveries};
use crate::history::{History, Known, What};

/// The verdict on one run.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// What was broken; nothing in a good run.
    pub violations: Vec<Violation>,
    /// Tasks that were submitted.
    pub submitted: usize,
    /// Those of which their producer knows that they were taken.
    pub acknowledged: usize,
    /// Those of them that did not end, whether a fault excuses it or not.
    pub lost: usize,
    /// Tasks that had their effect more than once.
    pub ran_twice: usize,
    /// Ends of runs that were refused because the run was no longer the task's.
    pub refused: usize,
    /// Faults that began.
    pub faults: usize,
    /// The longest time from the death of a worker to the next run of one of its tasks.
    pub worst_recovery: Option<Duration>,
    /// The longest time from the return of the broker to the first run.
    pub worst_return: Option<Duration>,
}

impl Judgement {
    /// Judges a run.
    #[must_use]
    pub fn of(history: &History, terms: &Terms) -> Self {
        let runs = Runs::of(history);
        let count = |matches: fn(&What) -> bool| {
            history
                .events
                .iter()
                .filter(|event| matches(&event.what))
                .count()
        };
        let recoveries = recoveries(history);
        let usual = recoveries.iter().filter(|recovery| recovery.attempt <= 2);
        Self {
            violations: check(history, terms),
            submitted: runs.plans.len(),
            acknowledged: loss::acknowledged(history).len(),
            lost: loss::lost(history).len(),
            ran_twice: runs.ran_twice(),
            refused: count(
                |what| matches!(what, What::Finished { outcome: Known::Ok, answer, .. } if answer == "lost" || answer == "already"),
            ),
            faults: count(|what| matches!(what, What::Fault { on: true, .. })),
            worst_recovery: usual.map(|recovery| recovery.after).max(),
            worst_return: worst_return(history),
        }
    }
}

/// The longest time from the end of a fault of the broker to the next start of a run.
fn worst_return(history: &History) -> Option<Duration> {
    let back = history.events.iter().enumerate().filter(|(_, event)| {
        matches!(&event.what, What::Fault { target, on: false, .. } if target == "broker")
    });
    let times = back.filter_map(|(i, back)| {
        let mut later = history.events[i + 1..].iter();
        let start = later.find(|event| {
            matches!(
                event.what,
                What::Start { .. } | What::Fault { .. } | What::Phase { .. }
            )
        })?;
        matches!(start.what, What::Start { .. }).then(|| Duration::from_nanos(start.t - back.t))
    });
    times.max()
}
