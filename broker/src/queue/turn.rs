//! Calls of one handle, each as a member of the queue with numbers of its own, so that calls at the same time neither
//! wait for each other nor mix up their answers.

use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio::time::Instant;

use super::shared::Shared;
use crate::broker::PATIENCE;
use crate::error::{Error, Result};
use crate::functions::Call;
use crate::lending::while_waiting;
use crate::object::{ASK_AGAIN, CALLER_LEASE, Caller, patience};
use crate::reply::{self, Tagged, odd};

/// Bytes of items that a call may bring over the connection of the small calls.
const SMALL: usize = 65_536;
/// Bytes per µs of a slow network.
const SLOW: usize = 4;

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

    /// Until when its calls are of use.
    pub(super) fn deadline(self) -> Instant {
        self.or_sooner(Instant::now() + PATIENCE)
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
    /// The items that it brings; left out where it only asks what became of its place in the line.
    pub(super) frames: &'a [Bytes],
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

/// The turn of a caller. Dropping it before its answer came gives up what it asked for.
pub(super) struct Turn<'a> {
    shared: &'a Shared,
    caller: Caller,
    stage: Stage,
}

impl<'a> Turn<'a> {
    pub(super) fn new(shared: &'a Shared) -> Result<Self> {
        Ok(Self {
            caller: shared.hold.caller()?,
            shared,
            stage: Stage::Settled,
        })
    }

    /// Asks, and waits in line until it is its turn or the time is over: nothing then.
    pub(super) async fn take(&mut self, ask: &Ask<'_>, until: Until) -> Result<Option<Tagged>> {
        let first = self.send(ask, until, ask.frames).await?;
        match self.stage {
            Stage::InLine => while_waiting(self.wait(ask, until)).await,
            _ => self.settled(first),
        }
    }

    async fn wait(&mut self, ask: &Ask<'_>, until: Until) -> Result<Option<Tagged>> {
        let client = self.shared.object().client()?;
        let mut mail = client.mail(self.caller.member, until.deadline()).await;
        // What it brings is sent again only when its turn has come.
        let (mut bring, mut brought) = (false, None);
        loop {
            let (member, sent, over) = (self.caller.member, Instant::now(), until.is_over());
            let frames = if bring { ask.frames } else { &[] };
            if !frames.is_empty() {
                brought.get_or_insert(sent);
            }
            let answer = self.send(ask, until, frames).await;
            // After so long the broker may have put what it brought and forgotten that.
            let unknown = brought.is_some_and(|at| at.elapsed() > CALLER_LEASE / 2);
            bring = match answer {
                Ok(answer) if unknown && answer.tag != "ok" => return Err(self.unheard(ask)),
                Ok(answer) if self.stage == Stage::Settled => return self.settled(answer),
                Ok(answer) => {
                    brought = None;
                    answer.tag == "room"
                }
                Err(error) if !error.is_transient() || unknown => return Err(error),
                Err(_) if !over => false,
                Err(_) if brought.is_none() => return Ok(None),
                Err(error) => return Err(error),
            };
            if member != self.caller.member {
                mail = client.mail(self.caller.member, until.deadline()).await;
            } else if !bring {
                let again = until.or_sooner(sent + ASK_AGAIN);
                // Nothing in it says only that news may have been lost.
                bring = mail.next(again).await.is_some_and(|word| !word.is_empty());
            }
        }
    }

    /// Sends one call, which waits in line unless the time is over. A caller that the broker has forgotten is replaced by
    /// a new one.
    async fn send(&mut self, ask: &Ask<'_>, until: Until, frames: &[Bytes]) -> Result<Tagged> {
        loop {
            self.stage = Stage::Unheard;
            let call = self.call(ask, !until.is_over(), frames);
            let value = self.over_link(&call, until, frames).await?;
            let answer = reply::tagged(value, ask.verb)?;
            self.stage = Stage::Settled;
            match answer.tag.as_str() {
                "ok" => self.caller.number += 1,
                "wait" | "room" => self.stage = Stage::InLine,
                "lost" => {
                    self.caller = Caller::new(self.shared.object())?;
                    continue;
                }
                _ => {}
            }
            return Ok(answer);
        }
    }

    fn call(&self, ask: &Ask<'_>, wait: bool, frames: &[Bytes]) -> Call {
        let Shared { hold, terms, .. } = self.shared;
        let mut call = self
            .caller
            .call(hold.object(), ask.verb, CALLER_LEASE)
            .arg(terms.maxsize.map_or(String::new(), |n| n.to_string()))
            .arg(if terms.joinable { "1" } else { "0" });
        if ask.waits {
            call = call.arg(if wait { "1" } else { "0" });
        }
        if let Some(count) = ask.count {
            call = call.arg(count);
        }
        for frame in frames {
            call = call.arg(frame.as_ref());
        }
        call
    }

    /// What may be large goes beside the small calls, which then do not wait for it. It has the time that it takes to bring
    /// it, whatever the timeout, which is for the wait in line.
    async fn over_link(&self, call: &Call, until: Until, frames: &[Bytes]) -> Result<Value> {
        let broker = self.shared.object().broker();
        let bytes = frames.iter().map(Bytes::len).sum::<usize>();
        let small = bytes <= SMALL;
        let transfer = Duration::from_micros((bytes / SLOW) as u64);
        let link = if small && call.verb != "queue_get" {
            broker.control()
        } else {
            broker.bulk()
        };
        let patience = patience(until.deadline()).max(transfer);
        link.call(call, patience).await
    }

    fn unheard(&self, ask: &Ask<'_>) -> Error {
        self.shared.object().broker().control().late(ask.verb)
    }

    /// What an answer says that ends the turn: done, or nothing.
    fn settled(&self, mut answer: Tagged) -> Result<Option<Tagged>> {
        let name = self.shared.object().name().clone();
        match answer.tag.as_str() {
            "ok" => Ok(Some(answer)),
            "full" | "empty" | "unfinished" => Ok(None),
            "too many" => Err(Error::TooManyDone { name }),
            "other" => Err(Error::OtherSize {
                kind: self.shared.object().word(),
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
        match self.stage {
            Stage::Settled => self.shared.hold.give_back(self.caller),
            Stage::InLine => self.shared.leave(&[self.caller], false),
            Stage::Unheard => self.shared.leave(&[self.caller], true),
        }
    }
}
