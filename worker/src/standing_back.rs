//! Standing back: a worker that was given what it can't run, or can't run now, leaves the next chance to others.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::sleep;

/// About as long as a refused task waits before it is offered again.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

/// Counts the refusals in a row, for each costs its slot some time: a fleet of which one worker in a hundred can run
/// a task would else hand it round among the others.
#[derive(Default)]
pub(crate) struct StandingBack(AtomicU32);

impl StandingBack {
    /// A task was run, so this worker is of use to the queue.
    pub(crate) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// A task was refused or handed back: waits, longer each time, before the slot may ask for another.
    pub(crate) async fn wait(&self) {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        sleep(pause(before)).await;
    }
}

fn pause(refusals: u32) -> Duration {
    FIRST.saturating_mul(1 << refusals.min(8)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_grows_to_a_second() {
        let pauses = [0, 1, 4, 5, u32::MAX].map(|n| pause(n).as_millis());
        assert_eq!(pauses, [50, 100, 800, 1000, 1000]);
    }
}
