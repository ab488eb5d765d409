//! Waiting under a lock until another process says that something changed. In Python this is `multiprocessing.Condition`.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::Broker;
use crate::error::Result;
use crate::ids::Name;
use crate::lock::Lock;
use crate::rlock::RLock;
use crate::semaphore::{Permit, Sleeper};
use crate::task_queue::{CHUNK, deadline_after};

/// A condition of a lock; a lock may have several. Clones are the same condition. In Python this is
/// `multiprocessing.Condition`.
///
/// Sleepers wake in the order in which they came, each with the lock. One that dies is passed over, and what it was
/// notified of but did not live to see goes to the next. A process that stood still for longer than 5 s wakes without a
/// notification, so look again at what you wait for ([`Condition::wait_for`] does).
#[derive(Clone)]
pub struct Condition {
    lock: Lock,
    name: Name,
}

impl Broker {
    /// The condition of this name, with the lock of the same name.
    #[must_use]
    pub fn condition(&self, name: &Name) -> Condition {
        self.lock(name).condition(name)
    }

    /// A new condition with a new lock. In Python this is `Condition()`.
    #[must_use]
    pub fn anonymous_condition(&self) -> Condition {
        let lock = self.anonymous_lock();
        let name = lock.name().clone();
        Condition { lock, name }
    }
}

impl Lock {
    /// The condition of this name under this lock. In Python this is `Condition(lock)`.
    #[must_use]
    pub fn condition(&self, name: &Name) -> Condition {
        Condition {
            lock: self.clone(),
            name: name.clone(),
        }
    }
}

impl RLock {
    /// The condition of this name under this lock. In Python this is `Condition(rlock)`.
    #[must_use]
    pub fn condition(&self, name: &Name) -> Condition {
        self.lock().condition(name)
    }
}

impl Condition {
    /// What another process opens it by, together with its lock.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Its lock. In Python this is the `lock` of `Condition(lock)`.
    #[must_use]
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Waits until its lock is ours. In Python this is `Condition.acquire()`.
    pub async fn acquire(&self) -> Result<Permit> {
        self.lock.acquire().await
    }

    /// Gives the lock up, sleeps until it is notified, and takes the lock again: a new grant, with a fence of its own.
    /// In Python this is `Condition.wait()`.
    ///
    /// [`Error::NotAcquired`](crate::Error::NotAcquired) where the permit is of another lock,
    /// [`Error::GrantLost`](crate::Error::GrantLost) where it was lost. On any error the lock is no longer held.
    pub async fn wait(&self, permit: Permit) -> Result<Permit> {
        let (permit, _) = self.wait_timeout(permit, Duration::MAX).await?;
        Ok(permit)
    }

    /// Sleeps up to `timeout`; whether it was notified. It takes the lock again in any case, however long that takes.
    /// In Python this is `Condition.wait(timeout)`.
    pub async fn wait_timeout(&self, permit: Permit, timeout: Duration) -> Result<(Permit, bool)> {
        self.sleep(&permit, deadline_after(timeout)).await
    }

    /// Waits until the predicate is true, and looks whenever it is notified. In Python this is `Condition.wait_for`.
    pub async fn wait_for<F, W>(&self, permit: Permit, predicate: F) -> Result<Permit>
    where
        F: FnMut() -> W,
        W: Future<Output = bool>,
    {
        let never = deadline_after(Duration::MAX);
        let (permit, _) = self.wait_until(permit, never, predicate).await?;
        Ok(permit)
    }

    /// Waits up to `timeout` until the predicate is true; what it was at last. In Python this is
    /// `Condition.wait_for(predicate, timeout)`.
    pub async fn wait_for_timeout<F, W>(
        &self,
        permit: Permit,
        timeout: Duration,
        predicate: F,
    ) -> Result<(Permit, bool)>
    where
        F: FnMut() -> W,
        W: Future<Output = bool>,
    {
        let deadline = deadline_after(timeout);
        self.wait_until(permit, deadline, predicate).await
    }

    async fn wait_until<F, W>(
        &self,
        mut permit: Permit,
        deadline: Instant,
        mut predicate: F,
    ) -> Result<(Permit, bool)>
    where
        F: FnMut() -> W,
        W: Future<Output = bool>,
    {
        loop {
            let is_true = predicate().await;
            if is_true || Instant::now() >= deadline {
                return Ok((permit, is_true));
            }
            (permit, _) = self.sleep(&permit, deadline).await?;
        }
    }

    async fn sleep(&self, permit: &Permit, deadline: Instant) -> Result<(Permit, bool)> {
        let semaphore = self.lock.semaphore();
        permit.require(semaphore, "wait")?;
        let sleeper = Sleeper::new(semaphore, &self.name, permit)?;
        sleeper.sleep(deadline).await
    }

    /// As [`Condition::wait`], under an [`RLock`] that the caller owns: gives up all of its levels, and takes them
    /// back. In Python this is `Condition(RLock()).wait`.
    pub async fn wait_levels(&self, lock: &RLock) -> Result<()> {
        self.wait_levels_timeout(lock, Duration::MAX)
            .await
            .map(drop)
    }

    /// As [`Condition::wait_timeout`], likewise.
    pub async fn wait_levels_timeout(&self, lock: &RLock, timeout: Duration) -> Result<bool> {
        let (before, levels) = lock.part()?;
        let (permit, notified) = self.sleep(&before, deadline_after(timeout)).await?;
        lock.own(permit, levels);
        Ok(notified)
    }

    /// As [`Condition::notify`], likewise.
    pub async fn notify_levels(&self, lock: &RLock, n: usize) -> Result<()> {
        self.notify(&*lock.held()?, n).await
    }

    /// Wakes the `n` that have slept longest, or all if they are fewer. They go on when the permit is released. In Python
    /// this is `Condition.notify(n)`.
    ///
    /// [`Error::NotAcquired`](crate::Error::NotAcquired) where the permit is of another lock,
    /// [`Error::GrantLost`](crate::Error::GrantLost) where it was lost.
    pub async fn notify(&self, permit: &Permit, n: usize) -> Result<()> {
        permit.require(self.lock.semaphore(), "notify")?;
        let mut left = n;
        while left > 0 {
            let (woken, more) = permit.notify(&self.name, left.min(CHUNK)).await?;
            left -= woken.min(left);
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Wakes everybody who sleeps. In Python this is `Condition.notify_all`.
    pub async fn notify_all(&self, permit: &Permit) -> Result<()> {
        self.notify(permit, usize::MAX).await
    }
}
