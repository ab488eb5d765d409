//! The network: what was sent may arrive at any later time, any number of times, in any order, or never.

use crate::broker::{Outcome, Run, Who};

/// A call of a function, as its bytes say it: a repeated one is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Call {
    Submit,
    Claim(Who, u8),
    /// With the number of the last claim where nothing is held.
    Heartbeat(Who, Option<u8>),
    Finish(Run, Outcome),
    Release(Run),
}

/// Every call that was ever sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Network {
    sent: Vec<Call>,
}

impl Network {
    pub(crate) fn send(&mut self, call: Call) {
        if let Err(at) = self.sent.binary_search(&call) {
            self.sent.insert(at, call);
        }
    }

    pub(crate) fn sent(&self) -> impl Iterator<Item = Call> + '_ {
        self.sent.iter().copied()
    }
}
