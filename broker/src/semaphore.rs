//! Semaphores across hosts: permits under leases, granted to who waits first. A lock is one of a single permit.

mod permit;
mod sleeper;

use std::time::Duration;

use tokio::time::Instant;

pub use permit::Permit;
use permit::Row;
pub(crate) use sleeper::Sleeper;

use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::ids::Name;
use crate::keys::Kind;
use crate::object::{ASK_AGAIN, Granted, Member, Object, WAITING_LEASE};
use crate::reply::{self, Tagged};
use crate::task_queue::{DEFAULT_LEASE, deadline_after};

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
    object: Object,
    permits: u64,
    bounded: bool,
    lease: Duration,
}

impl Broker {
    /// The semaphore of this name, with so many permits. Fails later, at its first use, where it has another number.
    #[must_use]
    pub fn semaphore(&self, name: &Name, permits: u64) -> Semaphore {
        Semaphore::over(Object::attached(self, SEMAPHORE, name), permits)
    }

    /// The same, but [`Semaphore::release`] refuses to raise it above its permits. In Python this is
    /// `multiprocessing.BoundedSemaphore`.
    #[must_use]
    pub fn bounded_semaphore(&self, name: &Name, permits: u64) -> Semaphore {
        let mut semaphore = self.semaphore(name, permits);
        semaphore.bounded = true;
        semaphore
    }

    /// A new semaphore without a name of its own.
    #[must_use]
    pub fn anonymous_semaphore(&self, permits: u64) -> Semaphore {
        Semaphore::over(Object::anonymous(self, SEMAPHORE), permits)
    }
}

impl Semaphore {
    fn over(object: Object, permits: u64) -> Self {
        Self {
            object,
            permits,
            bounded: false,
            lease: DEFAULT_LEASE,
        }
    }

    /// What a lock is made of.
    pub(crate) fn for_lock(broker: &Broker, name: Option<&Name>) -> Self {
        let object = match name {
            Some(name) => Object::attached(broker, LOCK, name),
            None => Object::anonymous(broker, LOCK),
        };
        Self::over(object, 1)
    }

    /// Sets the lease of its permits; 15 s unless set. A crashed holder's permit is free again after it.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_secs(1));
        self
    }

    /// What another process opens it by.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.object.name()
    }

    /// Waits for a permit. In Python this is `Semaphore.acquire()`.
    pub async fn acquire(&self) -> Result<Permit> {
        loop {
            if let Some(permit) = self.acquire_timeout(Duration::MAX).await? {
                return Ok(permit);
            }
        }
    }

    /// Waits up to `timeout` for a permit. In Python this is `Semaphore.acquire(timeout=...)`.
    pub async fn acquire_timeout(&self, timeout: Duration) -> Result<Option<Permit>> {
        let deadline = deadline_after(timeout);
        let mut place = Place::new(self);
        if let Asked::Granted(row) = place.ask(true).await? {
            return Ok(Some(place.take(row, self.lease)));
        }
        let row = place.wait(deadline).await?;
        Ok(row.map(|row| place.take(row, WAITING_LEASE.min(self.lease))))
    }

    /// Takes a permit if one is free. In Python this is `Semaphore.acquire(block=False)`.
    pub async fn acquire_nowait(&self) -> Result<Option<Permit>> {
        let mut place = Place::new(self);
        match place.ask(false).await? {
            Asked::Granted(row) => Ok(Some(place.take(row, self.lease))),
            Asked::Wait(_) => {
                place.in_line = false;
                Ok(None)
            }
        }
    }

    /// Frees one permit more, whoever took it. In Python this is `Semaphore.release()`, which knows no holder either;
    /// to give back a permit that you hold, use [`Permit::release`].
    ///
    /// A bounded semaphore answers [`Error::NotHeld`] where all its permits are free.
    pub async fn release(&self) -> Result<()> {
        let bound = if self.bounded { "bounded" } else { "semaphore" };
        self.post(bound).await
    }

    pub(crate) async fn post(&self, bound: &'static str) -> Result<()> {
        let caller = self.object.client().member();
        let call = self
            .object
            .call("sem_post")
            .arg(caller.as_bytes())
            .arg(self.permits)
            .arg(bound);
        let mut answer = self.object.send(&call).await?;
        match answer.tag.as_str() {
            "ok" => Ok(()),
            "other" => Err(self.other(&mut answer)?),
            _ => Err(Error::NotHeld {
                kind: self.object.word(),
                name: self.name().clone(),
            }),
        }
    }

    /// How many permits are free. In Python this is `Semaphore.get_value`.
    pub async fn value(&self) -> Result<u64> {
        let look = self.object.look("sem_look");
        let answer = reply::items(self.object.send_raw(&look).await?, look.verb)?;
        let free = reply::text(
            answer.into_iter().nth(1).unwrap_or(redis::Value::Nil),
            look.verb,
        )?;
        if free.is_empty() {
            return Ok(self.permits);
        }
        let free: i64 = free.parse().map_err(|_| reply::odd(look.verb))?;
        Ok(free.max(0) as u64)
    }

    /// Whether no permit is free.
    pub async fn locked(&self) -> Result<bool> {
        Ok(self.value().await? == 0)
    }

    fn other(&self, answer: &mut Tagged) -> Result<Error> {
        Ok(Error::OtherSize {
            kind: self.object.word(),
            name: self.name().clone(),
            size: answer.number()?,
            asked: self.permits,
        })
    }
}

enum Asked {
    Granted(Row),
    /// Not now; ask again after this time, which the first in line is told.
    Wait(Option<Duration>),
}

/// A place in the line for a permit. Dropping it gives it up.
struct Place<'a> {
    semaphore: &'a Semaphore,
    member: Member,
    sent: Instant,
    in_line: bool,
}

impl<'a> Place<'a> {
    fn new(semaphore: &'a Semaphore) -> Self {
        Self {
            semaphore,
            member: semaphore.object.client().member(),
            sent: Instant::now(),
            in_line: true,
        }
    }

    async fn ask(&mut self, wait: bool) -> Result<Asked> {
        let Semaphore { object, .. } = self.semaphore;
        let call = object
            .call("sem_acquire")
            .arg(self.member.as_bytes())
            .arg(self.semaphore.lease.as_millis() as u64)
            .arg(self.semaphore.permits)
            .arg(if wait { "1" } else { "0" });
        self.sent = Instant::now();
        let mut answer = object.send(&call).await?;
        match answer.tag.as_str() {
            "ok" => Ok(Asked::Granted(Row {
                fence: answer.number()?,
                abandoned: answer.text()? == "1",
            })),
            "other" => Err(self.semaphore.other(&mut answer)?),
            "wait" => Ok(Asked::Wait(
                answer.text()?.parse().ok().map(Duration::from_millis),
            )),
            _ => Ok(Asked::Wait(None)),
        }
    }

    /// Waits for its turn: hears of it, or asks again. Nothing where the time is over.
    async fn wait(&mut self, deadline: Instant) -> Result<Option<Row>> {
        let mut mail = self.semaphore.object.client().mail(self.member).await;
        loop {
            let asked = match self.ask(true).await {
                Err(error) if error.is_transient() => Asked::Wait(None),
                asked => asked?,
            };
            let first = match asked {
                Asked::Granted(row) => return Ok(Some(row)),
                Asked::Wait(first) => first,
            };
            let again = self.sent + first.unwrap_or(ASK_AGAIN).min(ASK_AGAIN);
            if let Some(row) = mail
                .next(again.min(deadline))
                .await
                .as_deref()
                .and_then(Row::parse)
            {
                return Ok(Some(row));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    /// Makes it a permit, whose lease at first is `first` long.
    fn take(&mut self, row: Row, first: Duration) -> Permit {
        self.in_line = false;
        let granted = Granted {
            lease: self.semaphore.lease,
            first,
            sent: self.sent,
        };
        let object = self.semaphore.object.clone();
        Permit::new(object, self.member, row, granted)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.in_line {
            let object = &self.semaphore.object;
            object
                .client()
                .farewell(permit::release(object, self.member, false));
        }
    }
}
