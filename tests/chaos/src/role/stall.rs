//! A thread that notices when its process stood still without being told to: on a busy machine leases end by that.

use std::thread;
use std::time::{Duration, Instant};

use crate::history::{Recorder, What};

const TICK: Duration = Duration::from_millis(50);
/// Shorter stalls harm nobody.
const WORTH_TELLING: Duration = Duration::from_millis(500);

/// Watches for as long as the process lives.
pub(crate) fn watch(recorder: Recorder) {
    thread::spawn(move || {
        loop {
            let begin = Instant::now();
            thread::sleep(TICK);
            let late = begin.elapsed().saturating_sub(TICK);
            if late > WORTH_TELLING {
                recorder.record(What::Stall {
                    ms: late.as_millis() as u64,
                });
            }
        }
    });
}
