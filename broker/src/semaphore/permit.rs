//! A permit that is held: its fence, its lease, its end.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::functions::Call;
use crate::object::{Granted, Lease, Member, Object};

/// What a grant says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) fence: u64,
    pub(super) abandoned: bool,
}

impl Row {
    /// Reads what the functions tell a waiter: its fence, and "!" where it got what a dead holder had.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let fence = text.trim_end_matches('!').parse().ok()?;
        Some(Self {
            fence,
            abandoned: text.ends_with('!'),
        })
    }
}

/// The call that gives a permit back, or leaves it taken.
pub(super) fn release(object: &Object, member: Member, leak: bool) -> Call {
    object
        .call("sem_release")
        .arg(member.as_bytes())
        .arg(if leak { "1" } else { "0" })
}

/// A permit of a semaphore, or a lock that is held. It is renewed until it is released or dropped.
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
    pub(super) fn new(object: Object, member: Member, row: Row, granted: Granted) -> Self {
        Self {
            lease: object.client().keep(&object, member, granted),
            object,
            member,
            row,
            released: AtomicBool::new(false),
        }
    }

    /// A number that grows with each grant, also over a failover. A store that remembers the highest one that it saw
    /// can refuse what an earlier holder still writes.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.row.fence
    }

    /// Whether its last holder died with it, so that what it guarded may be in a state between two.
    #[must_use]
    pub fn was_abandoned(&self) -> bool {
        self.row.abandoned
    }

    /// Resolves when the lease is lost: the broker was away for too long, this process stood still, or somebody
    /// released it by force. It is the holder's own clock that tells, before the broker gives it to another.
    pub async fn lost(&self) {
        self.lease.lost().await;
    }

    /// Whether it is lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lease.is_lost()
    }

    /// Gives it back. [`Error::GrantLost`] says that it had been lost before, or may have been: the broker was away just
    /// then. In Python this is `release`.
    pub async fn release(self) -> Result<()> {
        self.end(false).await
    }

    /// Leaves it taken without a holder, as a process does in Python that ends while it holds a lock: only
    /// [`Semaphore::release`](super::Semaphore::release) or [`Lock::force_release`](crate::Lock::force_release) frees
    /// it, from any process.
    pub async fn leak(self) -> Result<()> {
        self.end(true).await
    }

    async fn end(&self, leak: bool) -> Result<()> {
        let lost = self.is_lost();
        let answer = self
            .object
            .send(&release(&self.object, self.member, leak))
            .await?;
        self.forget();
        if lost || answer.tag != "ok" {
            return Err(self.lost_error());
        }
        Ok(())
    }

    /// Has nothing to give back any more.
    pub(super) fn forget(&self) {
        self.released.store(true, Ordering::Relaxed);
    }

    pub(crate) fn lost_error(&self) -> Error {
        Error::GrantLost {
            kind: self.object.word(),
            name: self.object.name().clone(),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.released.load(Ordering::Relaxed) {
            let call = release(&self.object, self.member, false);
            self.object.client().farewell(call);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_a_fence_and_perhaps_a_mark() {
        let row = |fence, abandoned| Some(Row { fence, abandoned });
        assert_eq!(Row::parse(b"17"), row(17, false));
        assert_eq!(Row::parse(b"18!"), row(18, true));
        assert_eq!(Row::parse(b""), None);
    }
}
