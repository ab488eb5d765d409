//! A place in the line for a permit, from the first call to the grant.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{Permit, Semaphore, permit};
use crate::error::Result;
use crate::lending::while_waiting;
use crate::object::{ASK_AGAIN, Granted, Mail, Member};

use permit::Row;

/// The lease of who was granted a permit while it waited, as the functions give it.
const GRANT_LEASE: Duration = Duration::from_secs(3);
/// So long after a call was sent, its next answer is better than old news: the lease that they tell of may be near its
/// end.
const OLD: Duration = Duration::from_millis(1500);

/// The bytes of a lone holder, as its function takes them: the number of permits, member, lease.
const HOLDER: usize = 24;

enum Asked {
    Granted(Permit),
    /// Not now; ask again after this time.
    Wait(Duration),
}

/// A place in the line. Dropping it gives it up, with what was granted meanwhile.
pub(super) struct Place<'a> {
    semaphore: &'a Semaphore,
    member: Member,
    deadline: Instant,
    sent: Instant,
    /// News of a grant is believed only with a higher fence than this: a grant that was lost meanwhile, as to a process
    /// that stood still, is not the one that it waits for.
    last_fence: u64,
    /// A call may be under way.
    asking: bool,
    /// It may have a row in Redis.
    stands: bool,
}

impl<'a> Place<'a> {
    /// A place that is given up at `deadline`.
    pub(super) fn new(semaphore: &'a Semaphore, deadline: Instant) -> Result<Self> {
        Ok(Self {
            semaphore,
            member: semaphore.object().client()?.member(),
            deadline,
            sent: Instant::now(),
            last_fence: u64::MAX,
            asking: false,
            stands: false,
        })
    }

    /// Takes a permit if one is free.
    pub(super) async fn look(mut self) -> Result<Option<Permit>> {
        if let Some(permit) = self.ask_alone().await? {
            return Ok(Some(permit));
        }
        match self.ask(false).await? {
            Asked::Granted(permit) => Ok(Some(permit)),
            Asked::Wait(_) => {
                self.stands = false;
                Ok(None)
            }
        }
    }

    /// Waits for its turn. Nothing where the time is over.
    pub(super) async fn wait(mut self) -> Result<Option<Permit>> {
        if let Some(permit) = self.ask_alone().await? {
            return Ok(Some(permit));
        }
        if let Asked::Granted(permit) = self.ask(true).await? {
            return Ok(Some(permit));
        }
        while_waiting(self.stand()).await
    }

    /// Stands in line: hears of its turn, or asks again.
    async fn stand(&mut self) -> Result<Option<Permit>> {
        let client = self.semaphore.object().client()?;
        let mut mail = client.mail(self.member, self.deadline).await;
        loop {
            let again = match self.ask(true).await {
                Ok(Asked::Granted(permit)) => return Ok(Some(permit)),
                Ok(Asked::Wait(again)) => again,
                Err(error) if error.is_transient() => ASK_AGAIN,
                Err(error) => return Err(error),
            };
            if let Some(permit) = self.hear(&mut mail, again).await? {
                return Ok(Some(permit));
            }
            if Instant::now() >= self.deadline {
                return Ok(None);
            }
        }
    }

    /// Takes a permit as a lone holder, which costs least; nothing where that can't be, or hardly ever was lately.
    async fn ask_alone(&mut self) -> Result<Option<Permit>> {
        let (object, lease) = (self.semaphore.object(), self.semaphore.lease);
        let (Ok(permits), Ok(ms)) = (
            u32::try_from(self.semaphore.permits),
            u32::try_from(lease.as_millis()),
        ) else {
            return Ok(None);
        };
        if self.semaphore.contended.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut holder = [0; HOLDER];
        holder[..4].copy_from_slice(&permits.to_le_bytes());
        holder[4..20].copy_from_slice(self.member.as_bytes());
        holder[20..].copy_from_slice(&ms.to_le_bytes());
        let call = object.call_meta("sem_acquire_lone").arg(&holder[..]);
        self.begin();
        let answer = object.send_until(&call, self.deadline).await?;
        self.asking = false;
        let row = Row::parse(answer.tag.as_bytes());
        row.map(|row| self.take(Row { lone: true, ..row }, lease))
            .transpose()
    }

    /// A call is on its way from now on.
    fn begin(&mut self) {
        self.sent = Instant::now();
        (self.asking, self.stands, self.last_fence) = (true, true, u64::MAX);
    }

    async fn ask(&mut self, wait: bool) -> Result<Asked> {
        let (object, lease) = (self.semaphore.object(), self.semaphore.lease);
        let call = object
            .call("sem_acquire")
            .arg(self.member.as_bytes())
            .arg(lease.as_millis() as u64)
            .arg(self.semaphore.permits)
            .arg(if wait { "1" } else { "0" });
        self.begin();
        let mut answer = object.send_until(&call, self.deadline).await?;
        self.asking = false;
        let row = Row::parse(answer.tag.as_bytes());
        let contended = &self.semaphore.contended;
        contended.store(row.is_none(), Ordering::Relaxed);
        if let Some(row) = row {
            return Ok(Asked::Granted(self.take(row, lease)?));
        }
        match answer.tag.as_str() {
            "other" => {
                self.stands = false;
                Err(self.semaphore.other(&mut answer)?)
            }
            "wait" => {
                let first = answer.text()?.parse().map(Duration::from_millis);
                self.last_fence = answer.number()?;
                Ok(Asked::Wait(first.unwrap_or(ASK_AGAIN).min(ASK_AGAIN)))
            }
            _ => Ok(Asked::Wait(ASK_AGAIN)),
        }
    }

    /// Waits for the news of its grant, until it had better ask again.
    async fn hear(&mut self, mail: &mut Mail, again: Duration) -> Result<Option<Permit>> {
        let until = (self.sent + again).min(self.deadline);
        let row = mail.next(until).await.and_then(|word| Row::parse(&word));
        let news = row.filter(|row| row.fence > self.last_fence && self.sent.elapsed() < OLD);
        news.map(|row| self.take(row, GRANT_LEASE)).transpose()
    }

    /// Makes it a permit, whose lease at first is `first` long.
    fn take(&mut self, row: Row, first: Duration) -> Result<Permit> {
        self.stands = false;
        let granted = Granted {
            lease: self.semaphore.lease,
            first,
            sent: self.sent,
        };
        Permit::new(self.semaphore.object().clone(), self.member, row, granted)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.stands {
            return;
        }
        let object = self.semaphore.object();
        let call = permit::release(object, self.member, "unused").arg("0");
        object.give_up(call, self.asking);
    }
}
