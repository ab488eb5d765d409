//! How a process writes its history: one `write` a line at the end of its own file, so that a kill tears none.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

use super::{Event, What};

/// The time that all processes of this host share, in ns.
#[must_use]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Writes one process's history. Clones write to the same file.
#[derive(Clone, Debug)]
pub struct Recorder {
    actor: Arc<str>,
    file: Arc<File>,
}

impl Recorder {
    /// Opens the history of `actor`; `kind` tells its files apart.
    pub fn open(directory: &Path, actor: &str, kind: &str) -> Result<Self> {
        let path = directory.join(format!("{actor}.{kind}.jsonl"));
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(Self {
            actor: actor.into(),
            file: Arc::new(file.with_context(|| format!("could not open {}", path.display()))?),
        })
    }

    /// Who writes.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Writes an event of now.
    ///
    /// # Panics
    ///
    /// Where the line can't be written, as a history with a hole proves nothing.
    pub fn record(&self, what: What) {
        let event = Event {
            t: now(),
            wall: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |wall| wall.as_millis() as u64),
            actor: self.actor.to_string(),
            pid: std::process::id(),
            what,
        };
        let mut line = serde_json::to_vec(&event).expect("an event is plain data");
        line.push(b'\n');
        let written = (&*self.file).write(&line);
        assert!(
            written.as_ref().is_ok_and(|n| *n == line.len()),
            "could not write the history: {written:?}"
        );
    }
}
