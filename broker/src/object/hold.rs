//! A handle's hold on an object: calls that take effect once, and a membership that keeps an anonymous object alive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Granted, Lease, Member, Object};
use crate::error::{Error, Result};
use crate::functions::Call;
use crate::reply::Tagged;
use crate::task_queue::DEFAULT_LEASE;

/// How long the broker remembers a caller's last answer: longer than any call is sent again.
const CALLER_LEASE: Duration = Duration::from_secs(60);

/// What a handle and its clones have of an object. An anonymous one stays as long as somebody has a hold on it.
pub(crate) struct Hold {
    object: Object,
    /// Who makes the steps; each makes one at a time, so there are as many as steps were ever made at once.
    callers: Mutex<Vec<Caller>>,
    kept: tokio::sync::Mutex<Option<Kept>>,
    /// Whether the object was there, so that it is gone when it is not there again.
    made: AtomicBool,
}

/// A member that makes numbered steps.
#[derive(Clone, Copy)]
struct Caller {
    member: Member,
    number: u32,
}

/// The membership in an anonymous object.
struct Kept {
    member: Member,
    lease: Lease,
}

impl Hold {
    /// A hold on a new object, or on one with a name, which is there as soon as it is used.
    pub(crate) fn new(object: Object) -> Self {
        Self {
            object,
            callers: Mutex::default(),
            kept: tokio::sync::Mutex::default(),
            made: AtomicBool::new(false),
        }
    }

    /// A hold on an object that somebody else has made; without a name of its own it may be gone.
    pub(crate) fn existing(object: Object) -> Self {
        let hold = Self::new(object);
        hold.made.store(true, Ordering::Relaxed);
        hold
    }

    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    /// Makes a numbered step, whose arguments `with` adds. It takes effect once, however often it is sent.
    pub(crate) async fn step(
        &self,
        verb: &'static str,
        with: impl Fn(Call) -> Call,
    ) -> Result<Tagged> {
        self.attach().await?;
        loop {
            let mut turn = self.turn();
            turn.caller.number += 1;
            let Caller { member, number } = turn.caller;
            let call = self
                .object
                .call(verb)
                .arg(member.as_bytes())
                .arg(number)
                .arg(CALLER_LEASE.as_millis() as u64);
            let sent = Instant::now();
            let answer = self.object.send(&with(call)).await?;
            if answer.tag != "lost" {
                return Ok(answer);
            }
            // The broker has forgotten a caller that was idle for long, so this step was not made, and a new caller
            // makes it; unless this process stood still meanwhile, and the step was made, forgotten and sent again.
            turn.forgotten = true;
            if number == 1 || sent.elapsed() > CALLER_LEASE / 2 {
                return Err(Error::GrantLost {
                    kind: self.object.word(),
                    name: self.object.name().clone(),
                });
            }
        }
    }

    /// Makes a call that only looks, whose arguments `with` adds.
    pub(crate) async fn look(
        &self,
        verb: &'static str,
        with: impl FnOnce(Call) -> Call,
    ) -> Result<Tagged> {
        self.attach().await?;
        self.object.send(&with(self.object.look(verb))).await
    }

    /// Becomes a member of an anonymous object, at first and again after the lease was lost.
    pub(crate) async fn attach(&self) -> Result<()> {
        if !self.object.is_anonymous() {
            return Ok(());
        }
        let mut kept = self.kept.lock().await;
        if kept.as_ref().is_some_and(|kept| !kept.lease.is_lost()) {
            return Ok(());
        }
        let (member, sent) = (self.object.client().member(), Instant::now());
        let made = self.made.load(Ordering::Relaxed);
        let call = attach(self.object.call("attach"), member, DEFAULT_LEASE, made);
        if self.object.send(&call).await?.tag != "ok" {
            return Err(self.gone());
        }
        self.made.store(true, Ordering::Relaxed);
        let granted = Granted {
            lease: DEFAULT_LEASE,
            first: DEFAULT_LEASE,
            sent,
        };
        let lease = self.object.client().keep(&self.object, member, granted);
        *kept = Some(Kept { member, lease });
        Ok(())
    }

    /// The error that the object is not there any more.
    pub(crate) fn gone(&self) -> Error {
        Error::Gone {
            kind: self.object.word(),
            name: self.object.name().clone(),
        }
    }

    fn turn(&self) -> Turn<'_> {
        let free = self.lock().pop();
        let caller = free.unwrap_or_else(|| Caller {
            member: self.object.client().member(),
            number: 0,
        });
        Turn {
            hold: self,
            caller,
            forgotten: false,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Caller>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Completes the call that makes somebody a member of an object, which must be there already where `made` says so.
pub(crate) fn attach(call: Call, member: Member, lease: Duration, made: bool) -> Call {
    call.arg(member.as_bytes())
        .arg(lease.as_millis() as u64)
        .arg(if made { "1" } else { "" })
}

impl Drop for Hold {
    fn drop(&mut self) {
        let callers = std::mem::take(&mut *self.lock()).into_iter();
        let kept = self.kept.get_mut().take().map(|kept| kept.member);
        for member in callers.map(|caller| caller.member).chain(kept) {
            let call = self.object.call("detach").arg(member.as_bytes());
            self.object.client().farewell(call);
        }
    }
}

/// A caller's turn. It goes back when the turn ends, also in the middle of a step: its next one has another number.
struct Turn<'a> {
    hold: &'a Hold,
    caller: Caller,
    forgotten: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if !self.forgotten {
            self.hold.lock().push(self.caller);
        }
    }
}
