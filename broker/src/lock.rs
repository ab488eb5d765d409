//! A lock across hosts. In Python this is `multiprocessing.Lock`.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::ids::Name;
use crate::semaphore::{Permit, Semaphore};

/// Mutual exclusion between processes on any host, under a lease with a fence. In Python this is
/// `multiprocessing.Lock`.
///
/// A holder that crashes frees it after its lease, and the next one is told ([`Permit::was_abandoned`]). It excludes as
/// long as holders act only while [`Permit::is_lost`] is false and Redis does not fail over to a replica that lacks the
/// grant; what must be safe beyond that compares [`Permit::fence`].
///
/// The holder's clock stands still while its machine is suspended, so a holder that wakes may take an ended lease for a
/// good one until its next renewal, within a fifth of the lease. Redis ends leases by its machine's clock: a step forward
/// by more than [`Permit::margin`] may give the lock to another before its holder knows, and a step back keeps a crashed
/// holder's lock taken for longer.
#[derive(Clone)]
pub struct Lock(Semaphore);

impl Broker {
    /// The lock of this name.
    #[must_use]
    pub fn lock(&self, name: &Name) -> Lock {
        Lock(Semaphore::for_lock(self, Some(name)))
    }

    /// A new lock without a name of its own: it goes with the last process that has a handle of it. Another process
    /// opens it by its [`Lock::name`]. In Python this is `Lock()`.
    #[must_use]
    pub fn anonymous_lock(&self) -> Lock {
        Lock(Semaphore::for_lock(self, None))
    }
}

impl Lock {
    /// Sets the lease; 15 s unless set, at least 1 s, at most a day. A crashed holder's lock is free again after it.
    #[must_use]
    pub fn with_lease(self, lease: Duration) -> Self {
        Self(self.0.with_lease(lease))
    }

    pub(crate) fn semaphore(&self) -> &Semaphore {
        &self.0
    }

    /// What another process opens it by.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.0.name()
    }

    /// Waits until it is ours, behind those who wait already. Dropping the future gives the place up. In Python this is
    /// `Lock.acquire()`.
    pub async fn acquire(&self) -> Result<Permit> {
        self.0.acquire().await
    }

    /// Waits up to `timeout`. In Python this is `Lock.acquire(timeout=...)`.
    pub async fn acquire_timeout(&self, timeout: Duration) -> Result<Option<Permit>> {
        self.0.acquire_timeout(timeout).await
    }

    /// Takes it if it is free. In Python this is `Lock.acquire(block=False)`.
    pub async fn acquire_nowait(&self) -> Result<Option<Permit>> {
        self.0.acquire_nowait().await
    }

    /// Whether somebody holds it. In Python this is `Lock.locked()`.
    pub async fn locked(&self) -> Result<bool> {
        self.0.locked().await
    }

    /// How many wait in line for it now. Python cannot tell.
    pub async fn waiting(&self) -> Result<u64> {
        self.0.waiting().await
    }

    /// Frees it, whoever holds it or left it held, which Python's `Lock.release` does from any process. A live holder
    /// loses it, and learns that within a fifth of its lease. [`Error::NotHeld`] where nobody
    /// holds it: Python's `ValueError`.
    pub async fn force_release(&self) -> Result<()> {
        self.0.release().await
    }

    pub(crate) fn lost_error(&self) -> Error {
        self.0.lost_error()
    }
}

/// A lock is a semaphore of one permit, bounded.
impl From<Lock> for Semaphore {
    fn from(lock: Lock) -> Self {
        lock.0
    }
}

/// As its name, by which another process opens it.
impl Serialize for Lock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.name().serialize(serializer)
    }
}
