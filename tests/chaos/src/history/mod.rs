//! Histories: what every process of a run wrote down, in one order.

mod event;
mod recorder;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

pub use event::{Effects, Event, Known, Op, Planned, RunEnd, What};
pub use recorder::{Recorder, now};

/// All events of a run, in the order in which they happened.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The events by time.
    pub events: Vec<Event>,
}

impl History {
    /// Reads what all processes wrote into a directory.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut events = Vec::new();
        for entry in fs::read_dir(directory).context("could not list the histories")? {
            let path = entry?.path();
            if path
                .extension()
                .is_none_or(|extension| extension != "jsonl")
            {
                continue;
            }
            let text = fs::read_to_string(&path)?;
            for (i, line) in text.lines().enumerate() {
                let place = || format!("{}:{}", path.display(), i + 1);
                events.push(serde_json::from_str(line).with_context(place)?);
            }
        }
        Ok(Self::of(events))
    }

    /// A history of these events.
    #[must_use]
    pub fn of(mut events: Vec<Event>) -> Self {
        events.sort_by_key(|event: &Event| event.t);
        Self { events }
    }

    /// Whether something that was acknowledged at `t` may have been lost by a fault since.
    #[must_use]
    pub fn may_be_lost(&self, t: u64) -> bool {
        self.losses()
            .any(|(at, ns)| t <= at && at.saturating_sub(t) <= ns)
    }

    /// Whether the state went back to an earlier one before `t`, so that a thing may have been done twice.
    #[must_use]
    pub fn went_back_before(&self, t: u64) -> bool {
        self.losses().any(|(at, _)| at < t)
    }

    /// When data may have been lost, and how far back, in ns.
    fn losses(&self) -> impl Iterator<Item = (u64, u64)> {
        self.events.iter().filter_map(|event| match &event.what {
            What::Fault { effects, .. } if effects.loses_ms > 0 => {
                Some((event.t, effects.loses_ms.saturating_mul(1_000_000)))
            }
            _ => None,
        })
    }

    /// The events that mention `subject`, and the faults: the shortest history that shows what happened to it.
    #[must_use]
    pub fn about(&self, subject: &str) -> Vec<String> {
        let lines = self.events.iter().filter_map(|event| {
            let line = serde_json::to_string(event).ok()?;
            let fault = matches!(event.what, What::Fault { .. } | What::Phase { .. });
            (fault || line.contains(subject)).then(|| shortened(&line, subject))
        });
        lines.collect()
    }
}

/// A line without the other tasks of a long call.
fn shortened(line: &str, subject: &str) -> String {
    const LONGEST: usize = 400;
    if line.len() <= LONGEST {
        return line.to_owned();
    }
    let at = line.find(subject).unwrap_or_default();
    let part = |from: usize, to: usize| {
        let bytes = &line.as_bytes()[from.min(line.len())..to.min(line.len())];
        String::from_utf8_lossy(bytes).into_owned()
    };
    let start = at.saturating_sub(60);
    format!(
        "{} ... {} ...",
        part(0, start.min(100)),
        part(start, at + 240)
    )
}
