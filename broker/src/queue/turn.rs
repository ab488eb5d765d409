//! Calls of one handle, each as a member of the queue with numbers of its own, so that calls at the same time neither
//! wait for each other nor mix up their answers.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio::time::Instant;

use super::shared::Shared;
use crate::broker::PATIENCE;
use crate::error::{Error, Result};
use crate::functions::Call;
use crate::object::{ASK_AGAIN, Member};
use crate::reply::{self, Tagged, odd};

/// How long the broker knows a member's last call by its number; far longer than a call is sent again.
pub(super) const LEASE: Duration = Duration::from_secs(60);
/// A member that was not used for so long is not used again.
const IDLE: Duration = Duration::from_secs(30);
/// The most members of a handle that stay ready for the next call.
const READY: usize = 64;
/// Bytes of items that a call may bring over the connection of the small calls.
const SMALL: usize = 65_536;

/// A member of the queue, which makes one call at a time.
#[derive(Clone, Copy)]
struct Lane {
    member: Member,
    /// The number of its last call that did something.
    number: u32,
    used: Instant,
}

impl Lane {
    fn new(shared: &Shared) -> Self {
        Self {
            member: shared.object.client().member(),
            number: 0,
            used: Instant::now(),
        }
    }
}

/// The members of a handle that no call uses now.
#[derive(Default)]
pub(super) struct Lanes(Mutex<Vec<Lane>>);

impl Lanes {
    /// The one that was used last, if it is fresh.
    fn take(&self) -> Option<Lane> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.pop().filter(|lane| lane.used.elapsed() < IDLE)
    }

    fn put_back(&self, lane: Lane) {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() < READY {
            lanes.push(lane);
        }
    }

    /// The members, for the end of the handle.
    pub(super) fn drain(&self) -> Vec<Member> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.drain(..).map(|lane| lane.member).collect()
    }
}

/// How long a call waits.
#[derive(Clone, Copy)]
pub(super) enum Until {
    /// Not at all.
    Now,
    /// Until then.
    Then(Instant),
    /// For ever.
    Ever,
}

impl Until {
    /// After this time from now; a time that has no end is for ever.
    pub(super) fn after(timeout: Duration) -> Self {
        if timeout.is_zero() {
            return Self::Now;
        }
        Instant::now()
            .checked_add(timeout)
            .map_or(Self::Ever, Self::Then)
    }

    fn is_over(self) -> bool {
        match self {
            Self::Now => true,
            Self::Then(end) => Instant::now() >= end,
            Self::Ever => false,
        }
    }

    fn or_sooner(self, other: Instant) -> Instant {
        match self {
            Self::Then(end) => end.min(other),
            Self::Now | Self::Ever => other,
        }
    }
}

/// A call of a function of queues, without what each of them takes first.
pub(super) struct Ask<'a> {
    pub(super) verb: &'static str,
    /// Whether it takes "1" or "0" first: to wait in line, or not to.
    pub(super) waits: bool,
    /// A number after that, where it takes one.
    pub(super) count: Option<usize>,
    /// What it brings; left out where it only asks what became of its place in the line.
    pub(super) items: &'a [Bytes],
}

/// What the broker knows of a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing that it would have to forget.
    Settled,
    /// A place in a line.
    InLine,
    /// It sent a call whose answer did not come.
    Unheard,
}

/// One call's turn with a member. Dropping it before its answer came gives up what it asked for.
pub(super) struct Turn<'a> {
    shared: &'a Shared,
    lane: Lane,
    stage: Stage,
}

impl<'a> Turn<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        let lane = shared.lanes.take();
        Self {
            lane: lane.unwrap_or_else(|| Lane::new(shared)),
            shared,
            stage: Stage::Settled,
        }
    }

    /// Asks, and waits in line until it is its turn or the time is over: nothing then.
    pub(super) async fn take(&mut self, ask: &Ask<'_>, until: Until) -> Result<Option<Tagged>> {
        let wait = !matches!(until, Until::Now);
        let first = self.send(ask, wait, ask.items).await?;
        match self.stage {
            Stage::InLine => self.wait(ask, until).await,
            _ => self.settled(first),
        }
    }

    async fn wait(&mut self, ask: &Ask<'_>, until: Until) -> Result<Option<Tagged>> {
        let client = self.shared.object.client();
        let mut mail = client.mail(self.lane.member).await;
        // What it brings is sent again only when its turn may have come.
        let mut bring = false;
        loop {
            let (member, sent, over) = (self.lane.member, Instant::now(), until.is_over());
            let items = if bring || over { ask.items } else { &[] };
            bring = match self.send(ask, !over, items).await {
                Ok(answer) if self.stage == Stage::Settled => return self.settled(answer),
                Ok(answer) => answer.tag == "room",
                Err(error) if error.is_transient() && !over => false,
                Err(error) => return Err(error),
            };
            if member != self.lane.member {
                mail = client.mail(self.lane.member).await;
            } else if !bring {
                let again = until.or_sooner(sent + ASK_AGAIN);
                bring = mail.next(again).await.is_some();
            }
        }
    }

    /// Sends one call. A member that the broker has forgotten is replaced by a new one.
    async fn send(&mut self, ask: &Ask<'_>, wait: bool, items: &[Bytes]) -> Result<Tagged> {
        loop {
            self.stage = Stage::Unheard;
            let value = self.over_link(&self.call(ask, wait, items), items).await?;
            let answer = reply::tagged(value, ask.verb)?;
            self.stage = Stage::Settled;
            self.lane.used = Instant::now();
            match answer.tag.as_str() {
                "ok" => self.lane.number += 1,
                "wait" | "room" => self.stage = Stage::InLine,
                "lost" => {
                    self.lane = Lane::new(self.shared);
                    continue;
                }
                _ => {}
            }
            return Ok(answer);
        }
    }

    fn call(&self, ask: &Ask<'_>, wait: bool, items: &[Bytes]) -> Call {
        let Shared { object, terms, .. } = self.shared;
        let mut call = object
            .call(ask.verb)
            .arg(self.lane.member.as_bytes())
            .arg(self.lane.number + 1)
            .arg(LEASE.as_millis() as u64)
            .arg(terms.maxsize.map_or(String::new(), |n| n.to_string()))
            .arg(if terms.joinable { "1" } else { "0" });
        if ask.waits {
            call = call.arg(if wait { "1" } else { "0" });
        }
        if let Some(count) = ask.count {
            call = call.arg(count);
        }
        for item in items {
            call = call.arg(item.as_ref());
        }
        call
    }

    /// What may be large goes beside the small calls, which then do not wait for it.
    async fn over_link(&self, call: &Call, items: &[Bytes]) -> Result<Value> {
        let broker = self.shared.object.broker();
        let small = items.iter().map(Bytes::len).sum::<usize>() <= SMALL;
        let link = if small && call.verb != "queue_get" {
            broker.control()
        } else {
            broker.bulk()
        };
        link.call(call, PATIENCE).await
    }

    /// What an answer says that ends the turn: done, or nothing.
    fn settled(&self, mut answer: Tagged) -> Result<Option<Tagged>> {
        let name = self.shared.object.name().clone();
        match answer.tag.as_str() {
            "ok" => Ok(Some(answer)),
            "full" | "empty" | "unfinished" => Ok(None),
            "too many" => Err(Error::TooManyDone { name }),
            "other" => Err(Error::OtherSize {
                kind: self.shared.object.word(),
                name,
                size: answer.number()?,
                asked: self.shared.terms.maxsize.unwrap_or_default(),
            }),
            _ => Err(odd("use the queue")),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let next = self.lane.number + 1;
        match self.stage {
            Stage::Settled => self.shared.lanes.put_back(self.lane),
            Stage::InLine => self.shared.leave(&[self.lane.member], 0),
            Stage::Unheard => self.shared.leave(&[self.lane.member], next),
        }
    }
}
