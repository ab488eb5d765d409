//! A process group that ends with its owner.

use rustix::process::{Pid, Signal, kill_process_group};

use super::Guard;
use super::guard::Record;

/// The process group of one child, known to the guard. Dropping it kills what is left of the group,
/// so that nothing a task started outlives it, not even when its future is dropped in the middle.
#[derive(Debug)]
pub(crate) struct Group {
    leader: Pid,
    guard: Guard,
    record: Record,
}

impl Group {
    /// Registers the group that `leader` leads.
    pub(super) fn new(leader: Pid, guard: &Guard) -> Self {
        Self {
            leader,
            guard: guard.clone(),
            record: guard.register(leader),
        }
    }

    /// Sends `signal` to every process of the group; one that has ended already is no error.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process_group(self.leader, signal) {
            tracing::trace!(group = self.leader.as_raw_pid(), ?signal, %error, "no group to signal");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.guard.forget(self.record);
    }
}
