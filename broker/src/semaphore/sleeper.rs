//! Somebody who gave a lock up to sleep until a notification, and then holds it again.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Semaphore;
use super::permit::{Permit, Row};
use crate::error::{Error, Result};
use crate::ids::Name;
use crate::lending::while_waiting;
use crate::object::{ASK_AGAIN, Granted, Mail, Member, Object};
use crate::reply::Tagged;
use crate::task_queue::deadline_after;

/// Between tries to take the lock again while the broker refuses.
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// The lease of a grant at first, from the last call on. It is shorter than what the functions give.
const GRANT_LEASE: Duration = Duration::from_secs(3);
/// News of a grant that this process got so late are as good as none: it stood still, and may have lost it.
const OLD: Duration = Duration::from_millis(1500);

enum Asked {
    Granted(Permit),
    /// It sleeps, or stands in the lock's line.
    Wait,
    /// It does neither (any more).
    Gone,
}

/// A sleeper. Dropping it passes on what it was notified of.
pub(crate) struct Sleeper<'a> {
    semaphore: &'a Semaphore,
    condition: &'a Name,
    before: &'a Permit,
    member: Member,
    sent: Instant,
    /// Its call may be under way, or have failed: it can't tell how long its lease is.
    asking: bool,
    /// It may have a row in Redis.
    stands: bool,
}

impl<'a> Sleeper<'a> {
    pub(crate) fn new(
        semaphore: &'a Semaphore,
        condition: &'a Name,
        before: &'a Permit,
    ) -> Result<Self> {
        Ok(Self {
            semaphore,
            condition,
            before,
            member: semaphore.object().client()?.member(),
            sent: Instant::now(),
            asking: false,
            stands: true,
        })
    }

    /// Gives the lock up and sleeps; the lock anew, and whether it was notified.
    pub(crate) async fn sleep(mut self, deadline: Instant) -> Result<(Permit, bool)> {
        while_waiting(self.sleep_until(deadline)).await
    }

    async fn sleep_until(&mut self, deadline: Instant) -> Result<(Permit, bool)> {
        let mut mail = self.object().client()?.mail(self.member, deadline).await;
        let (mut deadline, mut fell_asleep) = (deadline, false);
        loop {
            let over = fell_asleep && Instant::now() >= deadline;
            let asked = if over {
                self.leave().await
            } else {
                self.ask().await
            };
            match asked {
                Ok(Asked::Granted(permit)) => {
                    self.before.forget();
                    return Ok((permit, true));
                }
                Ok(Asked::Gone) if fell_asleep => return Ok((self.take_again().await?, false)),
                Ok(Asked::Gone) => return Err(self.before.lost_error()),
                Ok(Asked::Wait) => {
                    self.before.forget();
                    fell_asleep = true;
                    if over {
                        deadline = deadline_after(Duration::MAX); // it was notified in time
                    }
                }
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error),
            }
            if let Some(permit) = self.hear(&mut mail, deadline).await? {
                return Ok((permit, true));
            }
        }
    }

    async fn ask(&mut self) -> Result<Asked> {
        let call = self
            .object()
            .call("cond_wait")
            .arg(self.before.member.as_bytes())
            .arg(self.member.as_bytes())
            .arg(self.condition.as_str());
        self.sent = Instant::now();
        self.asking = true;
        let answer = self.object().send(&call).await?;
        self.asking = false;
        self.read(&answer)
    }

    async fn leave(&mut self) -> Result<Asked> {
        let sent = Instant::now();
        let answer = self.object().send(&self.leaving("0")).await?;
        self.sent = sent;
        self.read(&answer)
    }

    fn leaving(&self, give_up: &'static str) -> crate::functions::Call {
        self.object()
            .call("cond_leave")
            .arg(self.member.as_bytes())
            .arg(self.condition.as_str())
            .arg(give_up)
    }

    fn read(&mut self, answer: &Tagged) -> Result<Asked> {
        if let Some(row) = Row::parse(answer.tag.as_bytes()) {
            return Ok(Asked::Granted(self.take(row)?));
        }
        if answer.tag == "wait" {
            return Ok(Asked::Wait);
        }
        self.stands = false;
        Ok(Asked::Gone)
    }

    /// Waits for the news that it holds the lock, until it had better ask again, or leave.
    async fn hear(&mut self, mail: &mut Mail, deadline: Instant) -> Result<Option<Permit>> {
        let until = (self.sent + ASK_AGAIN).min(deadline);
        let row = mail.next(until).await.and_then(|word| Row::parse(&word));
        let news = row.filter(|_| !self.asking && self.sent.elapsed() < OLD);
        news.map(|row| self.take(row)).transpose()
    }

    fn take(&mut self, row: Row) -> Result<Permit> {
        self.stands = false;
        let granted = Granted {
            lease: self.semaphore.lease,
            first: GRANT_LEASE.min(self.semaphore.lease),
            sent: self.sent,
        };
        Permit::new(self.object().clone(), self.member, row, granted)
    }

    /// Takes the lock as if for the first time, also over an outage.
    async fn take_again(&self) -> Result<Permit> {
        loop {
            match self.semaphore.acquire().await {
                Err(error) if error.is_transient() => sleep(BETWEEN_TRIES).await,
                taken => return taken,
            }
        }
    }

    fn object(&self) -> &'a Object {
        self.semaphore.object()
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        if self.stands {
            self.object().give_up(self.leaving("1"), self.asking);
        }
    }
}

/// What a condition asks of the permit of its lock.
impl Permit {
    /// [`Error::NotAcquired`] where it is of another lock, [`Error::GrantLost`] where it is lost.
    pub(crate) fn require(&self, semaphore: &Semaphore, call: &'static str) -> Result<()> {
        let (own, wanted) = (&self.object, semaphore.object());
        if own.word() != wanted.word() || own.name() != wanted.name() {
            return Err(Error::NotAcquired {
                kind: wanted.word(),
                name: wanted.name().clone(),
                call,
            });
        }
        if self.is_lost() {
            return Err(self.lost_error());
        }
        Ok(())
    }

    /// Notifies up to `n` sleepers; how many it were, and whether some are left.
    pub(crate) async fn notify(&self, condition: &Name, n: usize) -> Result<(usize, bool)> {
        let call = self
            .object
            .call("cond_notify")
            .arg(self.member.as_bytes())
            .arg(self.object.client()?.member().as_bytes())
            .arg(condition.as_str())
            .arg(n);
        let mut answer = self.object.send(&call).await?;
        if answer.tag != "ok" {
            return Err(self.lost_error());
        }
        Ok((answer.number()? as usize, answer.text()? == "1"))
    }
}
