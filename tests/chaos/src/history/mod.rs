//! Histories: what every process of a run wrote down, in one order.

mod event;
mod recorder;
mod tale;

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
    /// When data may have been lost, and how far back, in ns.
    losses: Vec<(u64, u64)>,
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
        let losses = events.iter().filter_map(loss).collect();
        Self { events, losses }
    }

    /// Whether something that was acknowledged at `t` may have been lost by a fault since.
    #[must_use]
    pub fn may_be_lost(&self, t: u64) -> bool {
        self.losses.iter().any(|(at, ns)| t <= *at && at - t <= *ns)
    }

    /// Whether the state went back to an earlier one before `t`, so that a thing may have been done twice.
    #[must_use]
    pub fn went_back_before(&self, t: u64) -> bool {
        self.losses.iter().any(|(at, _)| *at < t)
    }
}

/// When and how far back an event may have lost data.
fn loss(event: &Event) -> Option<(u64, u64)> {
    match &event.what {
        What::Fault { effects, .. } if effects.loses_ms > 0 => {
            Some((event.t, effects.loses_ms.saturating_mul(1_000_000)))
        }
        _ => None,
    }
}
