//! A permit that is held: its fence, its lease, its end.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::functions::Call;
use crate::object::{Granted, Lease, Member, Object, margin};

/// What a grant says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) fence: u64,
    pub(super) abandoned: bool,
    /// It is a lone holder's, who can likely give it back as one.
    pub(super) lone: bool,
}

impl Row {
    /// Reads what the functions answer and tell a waiter: its fence, and "!" where it got what a dead holder had.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let fence = text.trim_end_matches('!').parse().ok()?;
        Some(Self {
            fence,
            abandoned: text.ends_with('!'),
            lone: false,
        })
    }
}

/// The call that gives a permit "back", "leak"s it, or gives one back "unused"; its fence is to be added.
pub(super) fn release(object: &Object, member: Member, how: &'static str) -> Call {
    object.call("sem_release").arg(member.as_bytes()).arg(how)
}

pub(super) fn lost_error(object: &Object) -> Error {
    Error::GrantLost {
        kind: object.word(),
        name: object.name().clone(),
    }
}

/// A permit of a semaphore, or a lock that is held. It is renewed until it is released or dropped. In Python this is
/// the body of `with lock:`.
///
/// Dropping it releases it in the background; [`Permit::release`] returns when that is done.
pub struct Permit {
    pub(super) object: Object,
    pub(super) member: Member,
    row: Row,
    lease: Lease,
    released: AtomicBool,
}

impl Permit {
    pub(super) fn new(object: Object, member: Member, row: Row, granted: Granted) -> Result<Self> {
        Ok(Self {
            lease: object.client()?.keep(&object, member, granted),
            object,
            member,
            row,
            released: AtomicBool::new(false),
        })
    }

    /// A number that grows with each grant, also over a failover. A store that remembers the highest one that it saw
    /// can refuse what an earlier holder still writes. Python has none.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.row.fence
    }

    /// Whether its last holder died with it, so that what it guarded may be in a state between two. In Python the lock
    /// would stay held for ever.
    #[must_use]
    pub fn was_abandoned(&self) -> bool {
        self.row.abandoned
    }

    /// Resolves when the lease is lost: the broker was away for too long, this process stood still, or somebody
    /// released it by force. It is the holder's own clock that tells, before the broker gives it to another. Python has
    /// no leases, and so nothing to lose.
    pub async fn lost(&self) {
        self.lease.lost().await;
    }

    /// Whether it is lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lease.is_lost()
    }

    /// How much earlier than the broker a holder ends a lease of this length: the time in which what it guards can be
    /// stopped before another gets it. 2 s, or a fifth of a shorter lease than 10 s.
    #[must_use]
    pub fn margin(lease: Duration) -> Duration {
        margin(lease)
    }

    /// Gives it back, and returns when that is done. [`Error::GrantLost`] says that it had been lost before. In Python
    /// this is `release`.
    ///
    /// Where the broker can't be reached it goes on trying for 10 s; the permit is free at the latest when its lease has
    /// ended.
    pub async fn release(self) -> Result<()> {
        self.give_back().await
    }

    pub(crate) async fn give_back(&self) -> Result<()> {
        self.end("back").await
    }

    /// Leaves it taken without a holder, as a process does in Python that ends while it holds a lock: only
    /// [`Semaphore::release`](super::Semaphore::release) or [`Lock::force_release`](crate::Lock::force_release) frees
    /// it, from any process, whenever.
    pub async fn leak(self) -> Result<()> {
        self.end("leak").await
    }

    /// That the permit is not there (any more) is no error: a first try whose answer was lost has given it back.
    async fn end(&self, how: &'static str) -> Result<()> {
        let lost_before = self.is_lost();
        if how == "back" && self.row.lone && self.end_alone().await? {
            return if lost_before {
                Err(self.lost_error())
            } else {
                Ok(())
            };
        }
        let call = release(&self.object, self.member, how).arg(self.row.fence);
        let answer = self.object.send(&call).await?;
        self.forget();
        let lost = answer.tag == "taken" || lost_before || how == "leak" && self.is_lost();
        if lost {
            return Err(self.lost_error());
        }
        Ok(())
    }

    /// Gives it back as a lone holder, which costs least. Answers whether that it still was.
    async fn end_alone(&self) -> Result<bool> {
        let call = self.object.call_meta("sem_release_lone");
        let answer = self.object.send(&call.arg(self.member.as_bytes())).await?;
        let ended = answer.tag == "ok";
        if ended {
            self.forget();
        }
        Ok(ended)
    }

    /// Has nothing to give back any more.
    pub(super) fn forget(&self) {
        self.released.store(true, Ordering::Relaxed);
    }

    pub(crate) fn lost_error(&self) -> Error {
        lost_error(&self.object)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.released.load(Ordering::Relaxed) {
            let call = release(&self.object, self.member, "back").arg(self.row.fence);
            self.object.farewell(call);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Permit");
        debug.field(self.object.word(), self.object.name());
        debug
            .field("fence", &self.row.fence)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_a_fence_and_perhaps_a_mark() {
        let row = |fence, abandoned| {
            let lone = false;
            Some(Row {
                fence,
                abandoned,
                lone,
            })
        };
        assert_eq!(Row::parse(b"17"), row(17, false));
        assert_eq!(Row::parse(b"18!"), row(18, true));
        assert_eq!(Row::parse(b""), None);
    }
}
