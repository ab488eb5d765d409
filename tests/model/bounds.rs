//! What the model of leases is let do, in parts: each small enough to look at every state in seconds.

use crate::leases::Leases;

/// One worker may die, the other be paused, and the broker be away once; copies of claims arrive as long as it knows their
/// worker.
pub(crate) const PLAIN: Leases = Leases {
    ticks: 5,
    grants: 2,
    lives: 2,
    crashes: 1,
    outages: 1,
    failovers: 0,
    may_fail: false,
    stale_claims: false,
    busy: false,
    on_first_page: true,
    removed: None,
};

/// Runs fail or are handed back as well.
pub(crate) const FAILING: Leases = Leases {
    may_fail: true,
    crashes: 0,
    outages: 0,
    ticks: 4,
    ..PLAIN
};

/// A replica takes over that has not got the last writes; the clock goes on.
pub(crate) const FAILOVER: Leases = Leases {
    failovers: 1,
    crashes: 0,
    outages: 0,
    ticks: 4,
    ..PLAIN
};

/// The same, with the task on the other page of the walk.
pub(crate) const OTHER_PAGE: Leases = Leases {
    on_first_page: false,
    ..FAILOVER
};

/// Copies of claims arrive however late.
pub(crate) const STALE: Leases = Leases {
    stale_claims: true,
    outages: 0,
    ticks: 6,
    ..PLAIN
};

/// A worker that is never idle, and a replica that has not got the end of its run.
pub(crate) const BUSY: Leases = Leases {
    busy: true,
    ..FAILOVER
};

/// A worker that is never idle, and copies of its claims however late.
pub(crate) const BUSY_STALE: Leases = Leases {
    busy: true,
    crashes: 0,
    ..STALE
};
