//! A lock across hosts. In Python this is `multiprocessing.Lock`.

use std::time::Duration;

use crate::broker::Broker;
use crate::error::Result;
use crate::ids::Name;
use crate::semaphore::{Permit, Semaphore};

/// Mutual exclusion between processes on any host, under a lease with a fence.
///
/// A holder that crashes frees it after its lease, and the next one is told ([`Permit::was_abandoned`]). It excludes as
/// long as holders act only while [`Permit::is_lost`] is false and Redis does not fail over to a replica that lacks the
/// grant; what must be safe beyond that compares [`Permit::fence`].
#[derive(Clone)]
pub struct Lock(Semaphore);

impl Broker {
    /// The lock of this name.
    #[must_use]
    pub fn lock(&self, name: &Name) -> Lock {
        Lock(Semaphore::for_lock(self, Some(name)))
    }

    /// A new lock without a name of its own.
    #[must_use]
    pub fn anonymous_lock(&self) -> Lock {
        Lock(Semaphore::for_lock(self, None))
    }
}

impl Lock {
    /// Sets the lease; 15 s unless set. A crashed holder's lock is free again after it.
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

    /// Waits until it is ours. In Python this is `Lock.acquire()`.
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

    /// Frees it, whoever holds it, which Python's `Lock.release` does from any process. The holder loses it.
    /// [`Error::NotHeld`](crate::Error::NotHeld) where nobody does.
    pub async fn force_release(&self) -> Result<()> {
        self.0.post("lock").await
    }
}
