//! A handle's hold on an object: calls that take effect once, and a membership that keeps an anonymous object alive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Granted, Lease, Member, Object, patience};
use crate::broker::PATIENCE;
use crate::error::{Error, Result};
use crate::functions::Call;
use crate::reply::Tagged;
use crate::task_queue::DEFAULT_LEASE;

/// How long the broker remembers a caller's last answer: longer than any call is sent again.
pub(crate) const CALLER_LEASE: Duration = Duration::from_secs(60);
/// A caller that was idle for so long is not used again, as the broker may soon forget it.
const FRESH: Duration = Duration::from_secs(30);
/// The most callers of a handle that stay ready for the next call.
const READY: usize = 64;

/// What a handle and its clones have of an object. An anonymous one stays as long as somebody has a hold on it.
pub(crate) struct Hold {
    object: Object,
    /// Callers that nobody uses now; each makes one call at a time.
    callers: Mutex<Vec<Caller>>,
    kept: tokio::sync::Mutex<Option<Kept>>,
    /// Whether the object was there, so that it is gone when it is not there again.
    made: AtomicBool,
}

/// A member that makes one numbered call after another, each of which counts once, however often it is sent.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) member: Member,
    /// Of its present call.
    pub(crate) number: u32,
    used: Instant,
}

impl Caller {
    /// A new one, before its first call.
    pub(crate) fn new(object: &Object) -> Result<Self> {
        Ok(Self {
            member: object.client()?.member(),
            number: 1,
            used: Instant::now(),
        })
    }

    /// Its present call. The broker remembers the caller for `lease` from then on.
    pub(crate) fn call(&self, object: &Object, verb: &'static str, lease: Duration) -> Call {
        object
            .call(verb)
            .arg(self.member.as_bytes())
            .arg(self.number)
            .arg(lease.as_millis() as u64)
    }
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

    /// The object, without seeing to it that it lives.
    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    /// Makes a numbered step, whose arguments `with` adds. It takes effect once, however often it is sent.
    pub(crate) async fn step(
        &self,
        verb: &'static str,
        with: impl Fn(Call) -> Call,
    ) -> Result<Tagged> {
        let object = self.attached().await?;
        loop {
            let mut turn = Turn {
                hold: self,
                caller: self.caller()?,
                forgotten: false,
            };
            let call = turn.caller.call(object, verb, CALLER_LEASE);
            let sent = Instant::now();
            let answer = object.send(&with(call)).await?;
            if answer.tag != "lost" {
                return Ok(answer);
            }
            // The broker has forgotten a caller that was idle for long, so this step was not made, and a new caller
            // makes it; unless this process stood still meanwhile, and the step was made, forgotten and sent again.
            turn.forgotten = true;
            if turn.caller.number == 1 || sent.elapsed() > CALLER_LEASE / 2 {
                return Err(Error::GrantLost {
                    kind: object.word(),
                    name: object.name().clone(),
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
        let object = self.attached().await?;
        object.send(&with(object.look(verb))).await
    }

    /// The object, which from now on lives for as long as this: an anonymous one is attached at first, and again after
    /// the lease was lost.
    pub(crate) async fn attached(&self) -> Result<&Object> {
        self.attached_until(Instant::now() + PATIENCE).await
    }

    /// The same for a call that is of no use after `deadline`.
    pub(crate) async fn attached_until(&self, deadline: Instant) -> Result<&Object> {
        let object = &self.object;
        let client = object.client()?;
        if !object.is_anonymous() {
            return Ok(object);
        }
        let Ok(mut kept) = timeout(patience(deadline), self.kept.lock()).await else {
            return Err(object.broker().control().late("attach"));
        };
        if kept.as_ref().is_some_and(|kept| !kept.lease.is_lost()) {
            return Ok(object);
        }
        let (member, sent) = (client.member(), Instant::now());
        let made = self.made.load(Ordering::Relaxed);
        let call = attach(object.call("attach"), member, DEFAULT_LEASE, made);
        if object.send_until(&call, deadline).await?.tag != "ok" {
            return Err(Error::Gone {
                kind: object.word(),
                name: object.name().clone(),
            });
        }
        self.made.store(true, Ordering::Relaxed);
        let granted = Granted {
            lease: DEFAULT_LEASE,
            first: DEFAULT_LEASE,
            sent,
        };
        let lease = client.keep(object, member, granted);
        *kept = Some(Kept { member, lease });
        Ok(object)
    }

    /// A caller whose present call is new.
    pub(crate) fn caller(&self) -> Result<Caller> {
        let ready = self.ready().pop();
        match ready.filter(|caller| caller.used.elapsed() < FRESH) {
            Some(mut caller) => {
                caller.number += 1;
                Ok(caller)
            }
            None => Caller::new(&self.object),
        }
    }

    /// Keeps a caller ready for another call.
    pub(crate) fn give_back(&self, mut caller: Caller) {
        caller.used = Instant::now();
        let mut ready = self.ready();
        if ready.len() < READY {
            ready.push(caller);
        }
    }

    /// The callers that are ready, which are the taker's to end.
    pub(crate) fn take_callers(&self) -> Vec<Caller> {
        std::mem::take(&mut *self.ready())
    }

    fn ready(&self) -> MutexGuard<'_, Vec<Caller>> {
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
        let callers = self.take_callers().into_iter().map(|caller| caller.member);
        let kept = self.kept.get_mut().take().map(|kept| kept.member);
        let members: Vec<_> = callers.chain(kept).collect();
        if members.is_empty() {
            return;
        }
        let detach = self.object.call("detach");
        let detach = members
            .iter()
            .fold(detach, |call, member| call.arg(member.as_bytes()));
        self.object.farewell(detach);
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
            self.hold.give_back(self.caller);
        }
    }
}
