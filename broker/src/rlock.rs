//! A lock that its owner may take again. In Python this is `multiprocessing.RLock`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::ids::Name;
use crate::lock::Lock;
use crate::semaphore::Permit;

/// A [`Lock`] that has an owner: a task of this process, or a thread outside of tasks. The owner may take it again, each
/// time one level deeper; it is free when all levels have been given back. In Python this is `multiprocessing.RLock`.
///
/// The levels are counted in this process, by this handle and its clones, so only the first and the last of them ask the
/// broker. Another handle of the same name is another process's, as it were: it waits for this one.
#[derive(Clone)]
pub struct RLock {
    lock: Lock,
    owned: Arc<Mutex<Option<Owned>>>,
}

/// Who owns a level: what runs in one task runs in turn, as in one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Task(tokio::task::Id),
    Thread(ThreadId),
}

impl Owner {
    fn current() -> Self {
        tokio::task::try_id().map_or_else(|| Self::Thread(std::thread::current().id()), Self::Task)
    }
}

struct Owned {
    owner: Owner,
    /// At least 1.
    levels: u32,
    /// Of the first grant; what is left of guards of an earlier one gives nothing back.
    turn: u64,
    permit: Arc<Permit>,
}

/// The levels that [`RLock::part`] parted from their permit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Levels {
    levels: u32,
    turn: u64,
}

impl Broker {
    /// The reentrant lock of this name. It is the same as the [`Lock`] of this name, which others may take.
    #[must_use]
    pub fn rlock(&self, name: &Name) -> RLock {
        RLock::over(self.lock(name))
    }

    /// A new reentrant lock without a name of its own: it goes with the last process that has a handle of it. In Python
    /// this is `RLock()`.
    #[must_use]
    pub fn anonymous_rlock(&self) -> RLock {
        RLock::over(self.anonymous_lock())
    }
}

impl RLock {
    fn over(lock: Lock) -> Self {
        Self {
            lock,
            owned: Arc::default(),
        }
    }

    /// Sets the lease, as [`Lock::with_lease`] does. The handle shares no levels with those it was cloned from.
    #[must_use]
    pub fn with_lease(self, lease: Duration) -> Self {
        Self::over(self.lock.with_lease(lease))
    }

    /// What another process opens it by.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.lock.name()
    }

    /// Waits until it is ours; at once where it is already. In Python this is `RLock.acquire()`.
    ///
    /// [`Error::GrantLost`] says that we had it and lost it: give back what levels there are first.
    pub async fn acquire(&self) -> Result<RLockGuard> {
        match self.deeper()? {
            Some(guard) => Ok(guard),
            None => Ok(self.first(self.lock.acquire().await?)),
        }
    }

    /// Waits up to `timeout`. In Python this is `RLock.acquire(timeout=...)`.
    pub async fn acquire_timeout(&self, timeout: Duration) -> Result<Option<RLockGuard>> {
        match self.deeper()? {
            Some(guard) => Ok(Some(guard)),
            None => Ok(self
                .lock
                .acquire_timeout(timeout)
                .await?
                .map(|permit| self.first(permit))),
        }
    }

    /// Takes it if it is free or ours. In Python this is `RLock.acquire(block=False)`.
    pub async fn acquire_nowait(&self) -> Result<Option<RLockGuard>> {
        match self.deeper()? {
            Some(guard) => Ok(Some(guard)),
            None => Ok(self
                .lock
                .acquire_nowait()
                .await?
                .map(|permit| self.first(permit))),
        }
    }

    /// Whether somebody holds it. In Python this is `RLock.locked()`.
    pub async fn locked(&self) -> Result<bool> {
        self.lock.locked().await
    }

    /// How many wait in line for it now. Python cannot tell.
    pub async fn waiting(&self) -> Result<u64> {
        self.lock.waiting().await
    }

    /// How many levels the caller owns; 0 where it is not the owner.
    #[must_use]
    pub fn levels(&self) -> u32 {
        self.mine(|owned| owned.levels).unwrap_or_default()
    }

    /// Gives one level back that was taken with [`RLockGuard::leak`]. [`Error::NotOwner`] where the caller is not the
    /// owner, and then nothing happens: Python's `AssertionError` of `RLock.release`.
    pub async fn release(&self) -> Result<()> {
        let turn = self
            .mine(|owned| owned.turn)
            .ok_or_else(|| self.not_owner())?;
        match self.shallower(turn) {
            Some(permit) => permit.give_back().await,
            None => Ok(()),
        }
    }

    /// Frees it with all its levels, whoever owns it, as [`Lock::force_release`] does.
    pub async fn force_release(&self) -> Result<()> {
        self.lock.force_release().await
    }

    /// Parts the caller's levels from what they are held by: what a condition does while it waits. None are owned then.
    pub(crate) fn part(&self) -> Result<(Arc<Permit>, Levels)> {
        let is_mine = |owned: &mut Owned| owned.owner == Owner::current();
        let owned = self.state().take_if(is_mine);
        let owned = owned.ok_or_else(|| self.not_owner())?;
        let levels = Levels {
            levels: owned.levels,
            turn: owned.turn,
        };
        Ok((owned.permit, levels))
    }

    /// What the caller's levels are held by.
    pub(crate) fn held(&self) -> Result<Arc<Permit>> {
        let permit = self.mine(|owned| owned.permit.clone());
        permit.ok_or_else(|| self.not_owner())
    }

    pub(crate) fn lock(&self) -> &Lock {
        &self.lock
    }

    /// One level more, where the caller owns it.
    fn deeper(&self) -> Result<Option<RLockGuard>> {
        let mut state = self.state();
        let owned = state
            .as_mut()
            .filter(|owned| owned.owner == Owner::current());
        let Some(owned) = owned else {
            return Ok(None);
        };
        if owned.permit.is_lost() {
            return Err(owned.permit.lost_error());
        }
        owned.levels += 1;
        Ok(Some(self.guard(owned.turn)))
    }

    fn first(&self, permit: Permit) -> RLockGuard {
        let turn = permit.fence();
        self.own(permit, Levels { levels: 1, turn });
        self.guard(turn)
    }

    pub(crate) fn own(&self, permit: Permit, Levels { levels, turn }: Levels) {
        // Where an owner was left, it has lost what the broker has now granted anew.
        *self.state() = Some(Owned {
            owner: Owner::current(),
            levels,
            turn,
            permit: Arc::new(permit),
        });
    }

    fn guard(&self, turn: u64) -> RLockGuard {
        RLockGuard {
            lock: self.clone(),
            turn,
            leaked: false,
        }
    }

    /// One level less of this turn; answers the permit where it was the last.
    fn shallower(&self, turn: u64) -> Option<Arc<Permit>> {
        let mut state = self.state();
        let owned = state.as_mut().filter(|owned| owned.turn == turn)?;
        owned.levels -= 1;
        if owned.levels > 0 {
            return None;
        }
        state.take().map(|owned| owned.permit)
    }

    fn mine<T>(&self, read: impl FnOnce(&Owned) -> T) -> Option<T> {
        let state = self.state();
        state
            .as_ref()
            .filter(|owned| owned.owner == Owner::current())
            .map(read)
    }

    fn not_owner(&self) -> Error {
        Error::NotOwner {
            name: self.name().clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Option<Owned>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One level of an [`RLock`]. Dropping it gives the level back, wherever that is; the last one in the background. In
/// Python this is the body of `with rlock:`.
#[must_use = "dropping it gives the level back"]
pub struct RLockGuard {
    lock: RLock,
    turn: u64,
    leaked: bool,
}

impl RLockGuard {
    /// As [`Permit::fence`]; 0 where it is lost.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.permit().map_or(0, |permit| permit.fence())
    }

    /// As [`Permit::was_abandoned`].
    #[must_use]
    pub fn was_abandoned(&self) -> bool {
        self.permit().is_some_and(|permit| permit.was_abandoned())
    }

    /// As [`Permit::lost`].
    pub async fn lost(&self) {
        if let Some(permit) = self.permit() {
            permit.lost().await;
        }
    }

    /// As [`Permit::is_lost`].
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.permit().is_none_or(|permit| permit.is_lost())
    }

    /// Gives the level back, and returns when that is done. [`Error::GrantLost`] says that the lock had been lost. In
    /// Python this is `RLock.release`.
    pub async fn release(mut self) -> Result<()> {
        let Some(permit) = self.permit() else {
            return Err(self.lock.lock.lost_error());
        };
        self.leaked = true;
        match self.lock.shallower(self.turn) {
            Some(last) => last.give_back().await,
            None if permit.is_lost() => Err(permit.lost_error()),
            None => Ok(()),
        }
    }

    /// Leaves the level taken: its owner, and nobody else, gives it back with [`RLock::release`].
    pub fn leak(mut self) {
        self.leaked = true;
    }

    /// What the lock is held by, where this is of its present turn.
    fn permit(&self) -> Option<Arc<Permit>> {
        let state = self.lock.state();
        let owned = state.as_ref().filter(|owned| owned.turn == self.turn);
        owned.map(|owned| owned.permit.clone())
    }
}

impl Drop for RLockGuard {
    fn drop(&mut self) {
        if !self.leaked {
            drop(self.lock.shallower(self.turn));
        }
    }
}

/// As its name, by which another process opens it.
impl Serialize for RLock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.lock.serialize(serializer)
    }
}
