//! Who holds an end of a pipe: a member with a lease, and how it waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::PATIENCE;
use crate::error::{Error, Result};
use crate::functions::Call;
use crate::lending::while_waiting;
use crate::object::{ASK_AGAIN, Granted, Lease, Mail, Member, Object};
use crate::reply::Tagged;

/// The number of the call that opened an end; its first step has the next one.
pub(super) const OPENED: u32 = 1;
/// The number of the call that closes it, beyond all others, so that what comes late after it does nothing.
const CLOSING: u32 = u32::MAX;

/// Which end of a one-way pipe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Side {
    Reader,
    Writer,
}

/// Where an end comes from.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    /// A new pipe of this capacity in bytes.
    New(usize),
    /// Another member holds it, and goes on.
    Beside(Member),
    /// Another member holds it, and ends by this.
    InPlaceOf(Member),
}

/// One end of a one-way pipe, held under a lease until it is closed or dropped.
pub(super) struct End {
    object: Object,
    member: Member,
    side: Side,
    lease: Duration,
    watchdog: Mutex<Option<Lease>>,
    closed: CancellationToken,
    /// A call of it is under way.
    asking: AtomicBool,
}

impl End {
    /// Holds an end.
    pub(super) async fn open(
        object: Object,
        side: Side,
        lease: Duration,
        origin: Origin,
    ) -> Result<Self> {
        let end = Self {
            member: object.client()?.member(),
            object,
            side,
            lease,
            watchdog: Mutex::default(),
            closed: CancellationToken::new(),
            asking: AtomicBool::new(false),
        };
        let sent = Instant::now();
        end.hold(end.member, lease, origin).await?;
        let granted = Granted {
            lease,
            first: lease,
            sent,
        };
        let client = end.object.client()?;
        let watchdog = client.keep(&end.object, end.member, granted);
        *end.watchdog() = Some(watchdog);
        Ok(end)
    }

    /// Has one more member hold this end for `lease`, unless somebody takes its place before.
    pub(super) async fn share(&self, lease: Duration) -> Result<Member> {
        let ticket = self.object.client()?.member();
        self.hold(ticket, lease, Origin::Beside(self.member))
            .await?;
        Ok(ticket)
    }

    async fn hold(&self, member: Member, lease: Duration, origin: Origin) -> Result<()> {
        let call = self
            .object
            .call("pipe_open")
            .arg(member.as_bytes())
            .arg(lease.as_millis() as u64)
            .arg(match self.side {
                Side::Reader => "r",
                Side::Writer => "w",
            });
        let call = match origin {
            Origin::New(capacity) => call.arg("new").arg(capacity),
            Origin::Beside(other) => call.arg("share").arg(other.as_bytes()),
            Origin::InPlaceOf(other) => call.arg("move").arg(other.as_bytes()),
        };
        match (self.object.send(&call).await?.tag.as_str(), origin) {
            ("ok", _) => Ok(()),
            (_, Origin::InPlaceOf(_)) => Err(Error::TicketGone {
                name: self.object.name().clone(),
            }),
            _ => Err(self.lost()),
        }
    }

    pub(super) fn object(&self) -> &Object {
        &self.object
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    pub(super) fn lease(&self) -> Duration {
        self.lease
    }

    /// The error of an end that has lost its lease.
    pub(super) fn lost(&self) -> Error {
        Error::EndLost {
            name: self.object.name().clone(),
        }
    }

    /// A call of one of its numbered steps.
    pub(super) fn step(&self, verb: &'static str, number: u32) -> Call {
        self.object
            .call(verb)
            .arg(self.member.as_bytes())
            .arg(number)
            .arg(self.lease.as_millis() as u64)
    }

    /// Does some work with it; nothing where it is closed, or is closed before the work is done.
    pub(super) async fn while_open<F: Future>(&self, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.closed.cancelled() => None,
            done = work => Some(done),
        }
    }

    /// Makes a call until its answer is another than to wait; nothing where it is `until`.
    pub(super) async fn ask(
        &self,
        mail: &mut Option<Mail>,
        call: &Call,
        until: Option<Instant>,
    ) -> Result<Option<Tagged>> {
        if self.watchdog().as_ref().is_some_and(Lease::is_lost) {
            return Err(self.lost());
        }
        let (answer, again) = self.ask_once(call, until).await?;
        let answer = if answer.tag == "wait" {
            while_waiting(self.wait(mail, call, (again, until))).await?
        } else {
            Some(answer)
        };
        match answer {
            Some(answer) if answer.tag == "lost" => Err(self.lost()),
            answer => Ok(answer),
        }
    }

    /// Hears that it is its turn, or asks again when it is time to.
    async fn wait(
        &self,
        mail: &mut Option<Mail>,
        call: &Call,
        (mut again, until): (Instant, Option<Instant>),
    ) -> Result<Option<Tagged>> {
        if mail.is_none() {
            let deadline = until.unwrap_or_else(|| Instant::now() + ASK_AGAIN);
            *mail = Some(self.object.client()?.mail(self.member, deadline).await);
            again = Instant::now(); // what it was told until now, it did not hear
        }
        loop {
            if let Some(mail) = mail {
                let _ = mail
                    .next(until.map_or(again, |until| until.min(again)))
                    .await;
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                return Ok(None);
            }
            match self.ask_once(call, until).await {
                Ok((answer, next)) if answer.tag == "wait" => again = next,
                Ok((answer, _)) => return Ok(Some(answer)),
                Err(error) if error.is_transient() => again = Instant::now() + ASK_AGAIN,
                Err(error) => return Err(error),
            }
        }
    }

    /// One call: its answer, and when to ask again.
    async fn ask_once(&self, call: &Call, until: Option<Instant>) -> Result<(Tagged, Instant)> {
        let sent = Instant::now();
        let deadline = until.unwrap_or_else(|| sent + PATIENCE);
        self.asking.store(true, Ordering::Relaxed);
        let answer = self.object.send_until(call, deadline).await;
        self.asking.store(false, Ordering::Relaxed);
        let mut answer = answer?;
        let mut again = ASK_AGAIN;
        if answer.tag == "wait" {
            again = again.min(Duration::from_millis(answer.number()?));
        }
        Ok((answer, sent + again))
    }

    /// Gives up the place in the line of readers that the wait of this number took.
    pub(super) fn leave(&self, wait: u32) {
        let call = self.object.call("pipe_leave");
        let call = call.arg(self.member.as_bytes()).arg(wait);
        let asking = self.asking.load(Ordering::Relaxed);
        self.object.give_up(call, asking);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Holds it no more. What goes on with it ends.
    pub(super) async fn close(&self) -> Result<()> {
        match self.closing() {
            Some(call) => self.object.send(&call).await.map(drop),
            None => Ok(()),
        }
    }

    /// Likewise, in the background.
    pub(super) fn close_soon(&self) {
        if let Some(call) = self.closing() {
            self.object.farewell(call);
        }
    }

    fn closing(&self) -> Option<Call> {
        if self.is_closed() {
            return None;
        }
        self.closed.cancel();
        self.watchdog().take();
        Some(self.step("pipe_close", CLOSING))
    }

    fn watchdog(&self) -> std::sync::MutexGuard<'_, Option<Lease>> {
        self.watchdog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.close_soon();
    }
}
