//! The checks of the protocol that a model can leave out, each to show that something needs it.

/// A check that the functions make, or a rule that they keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Check {
    /// `submit` takes an id in once.
    IdInSubmit,
    /// `claim` answers the last number again, and a lower one with nothing.
    NumberInClaim,
    /// `claim` puts the task under a lease; without it, it pops and forgets.
    LeaseInClaim,
    /// A token is at least the time; without it, it is the last one plus one.
    TimeInToken,
    /// A token is no attempt number, which a hand-back does not raise.
    TokenIsNoAttempt,
    /// `finish` compares the token with the one that the task runs under.
    TokenInFinish,
    /// `finish` compares anything but the id.
    RunInFinish,
    /// No lease ends for one lease more after the broker was away.
    OutageRule,
    /// Deadlines are by the server's clock; without it, by the worker's.
    ServerClock,
    /// `reclaim` marks the ended incarnation before it walks.
    MarkInReclaim,
    /// `reclaim` begins its walk anew on another server, whose hashes have another order.
    ServerInWalk,
    /// `reclaim` walks for a worker that said it held nothing as well.
    WalkForIdle,
    /// `heartbeat` tells what the server has lived through; without it, a worker does not notice a failover.
    HistoryInHeartbeat,
    /// `heartbeat` tells what the worker was granted last; without it, a worker does not notice what a late copy brought.
    GrantInHeartbeat,
}

/// A moment at which a function runs, and the rules that it knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The server's clock, in thirds of a lease.
    pub(crate) now: u8,
    /// The same, fine enough to tell two claims apart.
    pub(crate) fine: u8,
    pub(crate) removed: Option<Check>,
}

impl Moment {
    pub(crate) fn makes(self, check: Check) -> bool {
        self.removed != Some(check)
    }
}
