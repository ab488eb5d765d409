//! What is done to processes and to the networks between them and the server.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use pmq_tests::Hold;

use super::conductor::Conductor;
use super::fault::{Fault, Kind, Step};

/// What a slow line carries, in bytes a second.
const SLOW_LINE: u64 = 64_000;
/// A worker under load makes each of its calls within this time.
const CATCH: Duration = Duration::from_secs(2);
const GLANCE: Duration = Duration::from_millis(1);

impl Step {
    /// The call by which it is told, and what of the call never comes to its end.
    fn trap(self) -> (&'static str, Hold) {
        match self {
            Self::Claimed => ("_claim\r\n", Hold::Reply),
            Self::Told => ("_claim\r\n", Hold::Nothing),
            Self::Ran => ("_finish\r\n", Hold::Request),
            Self::Finished => ("_finish\r\n", Hold::Reply),
        }
    }
}

impl Conductor {
    /// Waits until the process in this place is at a step; false where it does not come there.
    pub(super) fn catch(&self, place: &str, step: Step) -> bool {
        let Some(proxy) = self.crew.proxy(place) else {
            return false;
        };
        let (call, hold) = step.trap();
        proxy.trap(call, hold);
        let begin = Instant::now();
        while !proxy.has_trapped() && begin.elapsed() < CATCH {
            sleep(GLANCE);
        }
        let caught = proxy.has_trapped();
        if !caught {
            proxy.open_trap();
        }
        caught
    }

    pub(super) fn hit_member(&mut self, fault: &Fault, place: &str) {
        let lasts_ms = fault.lasts.as_millis() as u64;
        if let Some(proxy) = self.crew.proxy(place) {
            match fault.kind {
                Kind::Cut(_) => proxy.cut(),
                Kind::Hole(_) => proxy.hole(true),
                Kind::Delay(_) => proxy.delay(Duration::from_millis(20 + lasts_ms % 200)),
                Kind::LoseReplies(_) => proxy.drop_next_reply(),
                Kind::Slice(_) => proxy.slice(1),
                Kind::Throttle(_) => proxy.throttle(SLOW_LINE),
                _ => {}
            }
        }
        let Some(process) = self.crew.process(place) else {
            return;
        };
        match fault.kind {
            Kind::Kill(_) | Kind::KillAt(..) => process.kill(),
            Kind::Pause(_) | Kind::LongPause(_) => process.stop(),
            Kind::Retire(_) | Kind::Upgrade(_) => process.terminate(),
            _ => return,
        }
        self.down.insert(place.to_owned());
        if let Some(proxy) = self.crew.proxy(place) {
            proxy.open_trap();
        }
    }

    pub(super) fn mend_member(&mut self, fault: &Fault, place: &str) -> Result<()> {
        if let Some(proxy) = self.crew.proxy(place) {
            proxy.hole(false);
            proxy.delay(Duration::ZERO);
            proxy.slice(0);
            proxy.throttle(0);
        }
        if !self.down.remove(place) {
            return Ok(());
        }
        match fault.kind {
            Kind::Pause(_) | Kind::LongPause(_) => {
                if let Some(process) = self.crew.process(place) {
                    process.resume();
                }
                Ok(())
            }
            Kind::Retire(_) => {
                self.mishaps.extend(self.crew.dismiss(place));
                self.crew.start(place)
            }
            Kind::Upgrade(_) => {
                self.mishaps.extend(self.crew.dismiss(place));
                self.crew.change_release(place);
                self.crew.start(place)
            }
            Kind::Kill(_) | Kind::KillAt(..) => self.crew.start(place),
            _ => Ok(()),
        }
    }
}
