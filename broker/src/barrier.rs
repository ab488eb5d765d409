//! A meeting point of processes on any host. In Python this is `multiprocessing.Barrier`.

mod arrival;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrival::Arrival;

use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::ids::Name;
use crate::keys::Kind;
use crate::object::{Hold, Object};
use crate::task_queue::deadline_after;

const BARRIER: Kind = Kind {
    word: "barrier",
    parts: &["meta", "members", "log", "waiters"],
};
/// The most parties of one barrier: one call lets them all pass.
pub const MAX_PARTIES: u32 = 10_000;

type Cause = Box<dyn std::error::Error + Send + Sync>;
type Action = dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), Cause>> + Send>> + Send + Sync;

/// A point that a number of parties pass together, again and again. Clones are the same barrier. In Python this is
/// `multiprocessing.Barrier`.
///
/// It breaks when a party times out, dies (within some 7 s), drops its wait or fails in the action, and by
/// [`Barrier::abort`]: then everybody who waits or comes gets [`Error::BrokenBarrier`], until [`Barrier::reset`].
#[derive(Clone)]
pub struct Barrier {
    hold: Arc<Hold>,
    parties: u32,
    timeout: Duration,
    action: Option<Arc<Action>>,
}

impl Broker {
    /// The barrier of this name, for 1 to [`MAX_PARTIES`] parties. Fails later, at its first use, where it is in use with
    /// another number. In Python this is `Barrier(parties)`.
    #[must_use]
    pub fn barrier(&self, name: &Name, parties: u32) -> Barrier {
        Barrier::over(Object::attached(self, BARRIER, name), parties)
    }

    /// A new barrier without a name of its own, which lives as long as some process uses it.
    #[must_use]
    pub fn anonymous_barrier(&self, parties: u32) -> Barrier {
        Barrier::over(Object::anonymous(self, BARRIER), parties)
    }
}

impl Barrier {
    fn over(object: Object, parties: u32) -> Self {
        Self {
            hold: Arc::new(Hold::new(object)),
            parties,
            timeout: Duration::MAX,
            action: None,
        }
    }

    /// The same, once it is sure to live for as long as this handle.
    pub(crate) async fn attached(self) -> Result<Self> {
        self.hold.attached().await?;
        Ok(self)
    }

    /// Sets what the last one to arrive does, in its own process, before anybody passes. If it fails, the barrier breaks.
    /// Give it to the handles of all parties. In Python this is the argument `action`.
    #[must_use]
    pub fn with_action<F, W, E>(mut self, action: F) -> Self
    where
        F: Fn() -> W + Send + Sync + 'static,
        W: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Cause> + 'static,
    {
        self.action = Some(Arc::new(move || {
            let done = action();
            Box::pin(async move { done.await.map_err(Into::into) })
        }));
        self
    }

    /// Sets how long [`Barrier::wait`] waits; for ever unless set. In Python this is the argument `timeout`.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long it waits unless told otherwise, `None` for ever; and whether it has an action.
    pub(crate) fn habits(&self) -> (Option<Duration>, bool) {
        let timeout = (self.timeout < Duration::MAX).then_some(self.timeout);
        (timeout, self.action.is_some())
    }

    /// What another process opens it by, with the same number of parties.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.hold.object().name()
    }

    /// How many meet. In Python this is `Barrier.parties`.
    #[must_use]
    pub fn parties(&self) -> u32 {
        self.parties
    }

    /// Waits until all parties have arrived; the index of this one by arrival, 0 to parties - 1. In Python this is
    /// `Barrier.wait()`.
    ///
    /// The last one gets [`Error::BarrierAction`] where its action failed, everybody else [`Error::BrokenBarrier`].
    pub async fn wait(&self) -> Result<u32> {
        self.wait_timeout(self.timeout).await
    }

    /// Waits up to `timeout`, then breaks the barrier. In Python this is `Barrier.wait(timeout)`.
    ///
    /// [`Error::Unreachable`] says that the broker answered nothing in all that time, or in the first 10 s of it. Where
    /// only the end of the wait met an outage it is [`Error::BrokenBarrier`] here, though the others may have passed.
    pub async fn wait_timeout(&self, timeout: Duration) -> Result<u32> {
        if self.parties == 0 || self.parties > MAX_PARTIES {
            let text = format!(
                "a barrier has 1 to {MAX_PARTIES} parties, not {}",
                self.parties
            );
            return Err(Error::BadOption(text));
        }
        let deadline = deadline_after(timeout);
        self.hold.attached_until(deadline).await?;
        loop {
            if let Some(index) = Arrival::new(self)?.pass(deadline).await? {
                return Ok(index);
            }
        }
    }

    /// Breaks it: who waits or comes gets [`Error::BrokenBarrier`]. In Python this is `Barrier.abort`.
    pub async fn abort(&self) -> Result<()> {
        self.hold.step("barrier_abort", |call| call).await.map(drop)
    }

    /// Opens it anew, also a broken one. Who waits gets [`Error::BrokenBarrier`]. In Python this is `Barrier.reset`.
    pub async fn reset(&self) -> Result<()> {
        self.hold.step("barrier_reset", |call| call).await.map(drop)
    }

    /// Whether it is broken. In Python this is `Barrier.broken`.
    pub async fn broken(&self) -> Result<bool> {
        Ok(self.look().await?.0 == "broken")
    }

    /// How many wait for the others; 0 while they pass. In Python this is `Barrier.n_waiting`.
    pub async fn n_waiting(&self) -> Result<u32> {
        let (phase, waiting) = self.look().await?;
        Ok(if phase == "filling" { waiting } else { 0 })
    }

    async fn look(&self) -> Result<(String, u32)> {
        let mut answer = self.hold.look("barrier_look", |call| call).await?;
        let waiting = answer.number()? as u32;
        Ok((answer.tag, waiting))
    }
}
