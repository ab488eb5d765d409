//! Semaphores across hosts: permits under leases, granted to who waits first. A lock is one of a single permit.

mod permit;
mod place;
mod sleeper;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub use permit::Permit;
use place::Place;
pub(crate) use sleeper::Sleeper;

use crate::broker::{Broker, PATIENCE};
use crate::error::{Error, Result};
use crate::ids::Name;
use crate::keys::Kind;
use crate::object::{Hold, Object};
use crate::reply::{self, Tagged};
use crate::task_queue::{DEFAULT_LEASE, deadline_after};

/// What a lease may be: a short one would end at any delay on the way, a long one keeps others out after a crash.
const LEASES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(86_400)];

const SEMAPHORE: Kind = Kind {
    word: "semaphore",
    parts: &["meta", "members", "log", "waiters"],
};
const LOCK: Kind = Kind {
    word: "lock",
    ..SEMAPHORE
};

/// Permits that processes on any host take and give back. In Python this is `multiprocessing.Semaphore`.
///
/// A permit that is held goes back when its holder dies. Who waits is served in order.
#[derive(Clone)]
pub struct Semaphore {
    hold: Arc<Hold>,
    permits: u64,
    bounded: bool,
    lease: Duration,
    /// Whether its last permit was got only by waiting for it, or others had one: then it is not asked for as by a lone
    /// holder first. Of all clones, as they ask for the same.
    contended: Arc<AtomicBool>,
}

impl Broker {
    /// The semaphore of this name, with so many permits, which may be none. Its first use answers
    /// [`Error::OtherSize`] where it is in use with another number.
    #[must_use]
    pub fn semaphore(&self, name: &Name, permits: u64) -> Semaphore {
        Semaphore::over(Object::attached(self, SEMAPHORE, name), permits)
    }

    /// The same, but [`Semaphore::release`] does not raise it above its permits. In Python this is
    /// `multiprocessing.BoundedSemaphore`.
    #[must_use]
    pub fn bounded_semaphore(&self, name: &Name, permits: u64) -> Semaphore {
        let mut semaphore = self.semaphore(name, permits);
        semaphore.bounded = true;
        semaphore
    }

    /// A new semaphore without a name of its own: it goes with the last process that has a handle of it. Another
    /// process opens it by its [`Semaphore::name`]. In Python this is `Semaphore(permits)`.
    #[must_use]
    pub fn anonymous_semaphore(&self, permits: u64) -> Semaphore {
        Semaphore::over(Object::anonymous(self, SEMAPHORE), permits)
    }

    /// The same, bounded. In Python this is `BoundedSemaphore(permits)`.
    #[must_use]
    pub fn anonymous_bounded_semaphore(&self, permits: u64) -> Semaphore {
        let mut semaphore = self.anonymous_semaphore(permits);
        semaphore.bounded = true;
        semaphore
    }
}

impl Semaphore {
    fn over(object: Object, permits: u64) -> Self {
        Self {
            hold: Arc::new(Hold::new(object)),
            permits,
            bounded: false,
            lease: DEFAULT_LEASE,
            contended: Arc::default(),
        }
    }

    /// What a lock is made of.
    pub(crate) fn for_lock(broker: &Broker, name: Option<&Name>) -> Self {
        let object = match name {
            Some(name) => Object::attached(broker, LOCK, name),
            None => Object::anonymous(broker, LOCK),
        };
        Self {
            bounded: true,
            ..Self::over(object, 1)
        }
    }

    /// Sets the lease of its permits; 15 s unless set, at least 1 s, at most a day. A crashed holder's permit is free
    /// again after it; who was only waiting in line is passed over after 5 s.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        let [shortest, longest] = LEASES;
        self.lease = lease.clamp(shortest, longest);
        self
    }

    /// What another process opens it by, with the same number of permits.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.object().name()
    }

    /// Its number of permits, and whether it is bounded; `None` where it is a lock.
    pub(crate) fn shape(&self) -> Option<(u64, bool)> {
        let is_lock = self.object().word() == LOCK.word;
        (!is_lock).then_some((self.permits, self.bounded))
    }

    /// Waits for a permit, behind those who wait already. Dropping the future gives the place up. In Python this is
    /// `Semaphore.acquire()`.
    ///
    /// [`Error::Unreachable`] says that the broker was away for 10 s when the wait began; later outages only prolong
    /// it.
    pub async fn acquire(&self) -> Result<Permit> {
        loop {
            if let Some(permit) = self.acquire_timeout(Duration::MAX).await? {
                return Ok(permit);
            }
        }
    }

    /// Waits up to `timeout` for a permit. In Python this is `Semaphore.acquire(timeout=...)`.
    ///
    /// [`Error::Unreachable`] says that the broker answered nothing in all that time, or in the first 10 s of it.
    pub async fn acquire_timeout(&self, timeout: Duration) -> Result<Option<Permit>> {
        let deadline = deadline_after(timeout);
        self.hold.attached_until(deadline).await?;
        Place::new(self, deadline)?.wait().await
    }

    /// Takes a permit if one is free. In Python this is `Semaphore.acquire(block=False)`.
    pub async fn acquire_nowait(&self) -> Result<Option<Permit>> {
        self.hold.attached().await?;
        Place::new(self, deadline_after(PATIENCE))?.look().await
    }

    /// Frees one permit more, whoever took it. In Python this is `Semaphore.release()`, which knows no holder either;
    /// to give back a permit that you hold, use [`Permit::release`].
    ///
    /// A bounded semaphore frees one that was [leaked](Permit::leak), else the one that was held longest, whose holder
    /// loses it. It answers [`Error::NotHeld`] where all are free: Python's `ValueError`.
    pub async fn release(&self) -> Result<()> {
        let object = self.hold.attached().await?;
        let caller = object.client()?.member();
        let call = object
            .call("sem_post")
            .arg(caller.as_bytes())
            .arg(self.permits)
            .arg(if self.bounded { "1" } else { "0" });
        let mut answer = object.send(&call).await?;
        match answer.tag.as_str() {
            "ok" => Ok(()),
            "other" => Err(self.other(&mut answer)?),
            _ => Err(Error::NotHeld {
                kind: self.object().word(),
                name: self.name().clone(),
            }),
        }
    }

    /// How many permits are free now. In Python this is `Semaphore.get_value`.
    pub async fn value(&self) -> Result<u64> {
        let [_, free, ..] = self.look().await?;
        if free.is_empty() {
            return Ok(self.permits);
        }
        let free: i64 = free.parse().map_err(|_| reply::odd("sem_look"))?;
        Ok(free.max(0) as u64)
    }

    /// How many wait in line for a permit now. Python cannot tell.
    pub async fn waiting(&self) -> Result<u64> {
        let [.., waiting] = self.look().await?;
        waiting.parse().map_err(|_| reply::odd("sem_look"))
    }

    /// Permits in all, free, held; how many wait.
    async fn look(&self) -> Result<[String; 4]> {
        let object = self.hold.attached().await?;
        let look = object.look("sem_look");
        let answer = reply::items(object.send_raw(&look).await?, look.verb)?;
        let texts: Result<Vec<_>> = answer
            .into_iter()
            .map(|item| reply::text(item, look.verb))
            .collect();
        texts?.try_into().map_err(|_| reply::odd(look.verb))
    }

    /// Whether no permit is free now. In Python this is `Semaphore.locked`.
    pub async fn locked(&self) -> Result<bool> {
        Ok(self.value().await? == 0)
    }

    fn object(&self) -> &Object {
        self.hold.object()
    }

    pub(crate) fn lost_error(&self) -> Error {
        permit::lost_error(self.object())
    }

    fn other(&self, answer: &mut Tagged) -> Result<Error> {
        Ok(Error::OtherSize {
            kind: self.object().word(),
            name: self.name().clone(),
            size: answer.number()?,
            asked: self.permits,
        })
    }
}
