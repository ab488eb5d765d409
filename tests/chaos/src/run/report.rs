//! What runs came to, as data and as a line each.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::family::Family;
use crate::checker::Judgement;
use crate::history::{History, What};

/// What one run came to, or several of one family together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// The family.
    pub family: String,
    /// How many runs.
    pub runs: u64,
    /// Faults that happened.
    pub faults: usize,
    /// Tasks that were submitted.
    pub submitted: usize,
    /// Those that were acknowledged.
    pub acknowledged: usize,
    /// Those of them that were lost.
    pub lost: usize,
    /// Tasks that had their effect more than once.
    pub ran_twice: usize,
    /// Second ends that were refused.
    pub refused: usize,
    /// The longest time until a killed worker's task ran elsewhere, in ms.
    pub recovery_ms: Option<u64>,
    /// The longest time from the broker's return to the first run, in ms.
    pub return_ms: Option<u64>,
    /// How often each fault happened, by its name.
    pub injected: BTreeMap<String, usize>,
    /// What was counted at the start and at the end.
    pub held: Vec<Held>,
    /// Promises that were broken.
    pub violations: Vec<String>,
}

/// What somebody held at the start and at the end of a long run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Who: a place or the server.
    pub of: String,
    /// What.
    pub what: String,
    /// How much at each count.
    pub counts: Vec<u64>,
}

impl Summary {
    /// Of one run.
    #[must_use]
    pub fn of(family: &Family, judgement: &Judgement, history: &History) -> Self {
        let ms = |time: Option<std::time::Duration>| time.map(|time| time.as_millis() as u64);
        Self {
            family: family.name.to_owned(),
            runs: 1,
            faults: judgement.faults,
            submitted: judgement.submitted,
            acknowledged: judgement.acknowledged,
            lost: judgement.lost,
            ran_twice: judgement.ran_twice,
            refused: judgement.refused,
            recovery_ms: ms(judgement.worst_recovery),
            return_ms: ms(judgement.worst_return),
            injected: injected(history),
            held: held(history),
            violations: judgement
                .violations
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }

    /// Adds another run of the same family.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.faults += other.faults;
        self.submitted += other.submitted;
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.ran_twice += other.ran_twice;
        self.refused += other.refused;
        self.recovery_ms = self.recovery_ms.max(other.recovery_ms);
        self.return_ms = self.return_ms.max(other.return_ms);
        for (name, count) in &other.injected {
            *self.injected.entry(name.clone()).or_default() += count;
        }
        self.violations.extend(other.violations.iter().cloned());
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!(
            "{} faults, {} tasks acknowledged, {} lost, {} ran twice, {} late ends refused",
            self.faults, self.acknowledged, self.lost, self.ran_twice, self.refused
        );
        if let Some(ms) = self.recovery_ms {
            let _ = write!(
                line,
                ", a killed worker's task ran again within {}",
                seconds(ms)
            );
        }
        if let Some(ms) = self.return_ms {
            let _ = write!(
                line,
                ", first run {} after the broker was back",
                seconds(ms)
            );
        }
        line
    }
}

/// How often each fault began.
fn injected(history: &History) -> BTreeMap<String, usize> {
    let mut injected = BTreeMap::new();
    for event in &history.events {
        if let What::Fault { name, on: true, .. } = &event.what {
            *injected.entry(name.clone()).or_default() += 1;
        }
    }
    injected
}

/// What was counted again and again.
fn held(history: &History) -> Vec<Held> {
    let mut held: Vec<Held> = Vec::new();
    for event in &history.events {
        let What::Census {
            of,
            what,
            count,
            when,
        } = &event.what
        else {
            continue;
        };
        if when == "after" {
            continue;
        }
        match held
            .iter_mut()
            .find(|held| held.of == *of && held.what == *what)
        {
            Some(known) => known.counts.push(*count),
            None => held.push(Held {
                of: of.clone(),
                what: what.clone(),
                counts: vec![*count],
            }),
        }
    }
    held
}

/// A mutant that the checker caught.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Caught {
    /// The mutant.
    pub mutant: String,
    /// The family of faults that showed it.
    pub family: String,
    /// The invariant that names the break.
    pub broke: String,
    /// The others that it broke on the way.
    pub also: Vec<String>,
    /// The first violation, in words.
    pub example: String,
}

/// What came of one run of a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Finding {
    /// A broken library was caught.
    Caught(Caught),
    /// All promises were kept.
    Kept(Summary),
}

/// A time in words.
#[must_use]
pub fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}
