//! The checker: what a history must not show. One invariant a file, each a pure function of the history.

mod agreement;
mod budgets;
mod conservation;
mod exclusion;
mod fencing;
mod idempotence;
mod leaks;
mod linearizable;
mod liveness;
mod loss;
mod order;
mod phantom;
mod queues;
mod recovery;
mod runs;
mod single_end;
#[cfg(test)]
mod testing;
mod tokens;
mod turns;
mod waiting;

use std::fmt;
use std::time::Duration;

use crate::history::History;

pub use agreement::Judgement;
pub use conservation::Shard;
pub use recovery::{Recovery, recoveries};
pub use runs::{Run, Runs};

/// What pmq promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Every acknowledged task ends, and its completion is got.
    NoLoss,
    /// Nothing runs that nobody submitted.
    NoPhantom,
    /// At most one completion of a task is accepted.
    SingleEnd,
    /// Tokens of a task are unique and grow, and the newest one ends it.
    Tokens,
    /// Failures and crashes are counted as they happened, and retries wait.
    Budgets,
    /// A task is in exactly one state at any moment.
    Conservation,
    /// First in, first out, where it is promised.
    Order,
    /// Fences of a lock grow with each grant.
    Fencing,
    /// A lock is held by one at a time.
    Exclusion,
    /// Work goes on after a fault, in time.
    Liveness,
    /// A task that is submitted twice is one.
    Idempotence,
    /// Nothing is left behind.
    Leaks,
    /// Shared objects behave as one.
    Objects,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::NoLoss,
        Self::NoPhantom,
        Self::SingleEnd,
        Self::Tokens,
        Self::Budgets,
        Self::Conservation,
        Self::Order,
        Self::Fencing,
        Self::Exclusion,
        Self::Liveness,
        Self::Idempotence,
        Self::Leaks,
        Self::Objects,
    ];
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLoss => "I1 no loss",
            Self::NoPhantom => "I2 no phantom",
            Self::SingleEnd => "I3 one accepted completion",
            Self::Tokens => "I4 token order",
            Self::Budgets => "I5 budgets",
            Self::Conservation => "I6 conservation",
            Self::Order => "I7 order",
            Self::Fencing => "I8a fencing",
            Self::Exclusion => "I8b mutual exclusion",
            Self::Liveness => "I9 liveness",
            Self::Idempotence => "I10 idempotent submit",
            Self::Leaks => "I11 no leak",
            Self::Objects => "I12 objects",
        })
    }
}

/// What of the promises holds in a run, given its faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The lease of its workers and locks.
    pub lease: Duration,
    /// Whether a lock has one holder at a time: not where the server loses what it acknowledged.
    pub exclusion: bool,
    /// After how long work goes on when the faults are over.
    pub resumes: Duration,
    /// How many completions wait on a completion queue before it is full, where it is not the usual number.
    pub completions_max: Option<u64>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(3),
            exclusion: true,
            resumes: Duration::from_secs(5),
            completions_max: None,
        }
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// The task, lock or queue that shows it: a text that its events contain.
    pub subject: String,
    /// What happened.
    pub what: String,
}

impl Violation {
    fn new(invariant: Invariant, subject: impl fmt::Display, what: impl Into<String>) -> Self {
        Self {
            invariant,
            subject: subject.to_string(),
            what: what.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.invariant, self.subject, self.what)
    }
}

/// Everything that is wrong with a history.
#[must_use]
pub fn check(history: &History, terms: &Terms) -> Vec<Violation> {
    let mut found = Vec::new();
    for check in [
        loss::check,
        phantom::check,
        single_end::check,
        tokens::check,
        conservation::check,
        order::check,
        fencing::check,
        idempotence::check,
        queues::check,
        linearizable::check,
    ] {
        found.extend(check(history));
    }
    found.extend(budgets::check(history, terms));
    found.extend(exclusion::check(history, terms));
    found.extend(leaks::check(history, terms));
    found.extend(liveness::check(history, terms));
    found.extend(turns::check(history, terms));
    found.extend(waiting::check(history, terms));
    found
}
