//! A pool: many calls of a handler, shared among worker processes. In Python this is `multiprocessing.Pool`.
//!
//! A call's input is cut into chunks. A chunk is one task, which runs once, unless its worker is lost: then it runs
//! again elsewhere, and the pool lives on. The `flow` of a call sends its chunks, as far as the `window` allows; the
//! `submitter` puts them on the task queue, and the `collector` brings back how they ended.

mod batch;
mod builder;
mod bulk;
mod calls;
mod chunk;
mod collector;
mod core;
mod crew;
mod error;
mod flow;
mod imap;
mod leftover;
mod preparation;
mod result;
mod submitter;
mod window;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;

pub use builder::PoolBuilder;
pub use crew::CrewLink;
pub use error::PoolError;
pub use imap::Imap;
pub use leftover::own_queue;
pub use result::{AsyncResult, CallOptions};

use self::chunk::Pieces;
use self::core::{Core, Flight, Phase};
use self::flow::Flow;
use crate::broker::Broker;
use crate::lending::while_waiting;
use crate::typed::Task;

/// The lease of a pool's own workers.
pub const LEASE: Duration = Duration::from_secs(5);

/// Calls handlers in worker processes, several at a time. In Python this is `multiprocessing.Pool`.
///
/// Dropping it terminates it, as Python's `with` does at its end: results that were not fetched are lost. Whatever
/// happens to this process, nothing of the pool is left: what waits is dropped and what runs is stopped when its lease
/// of 15 s ends.
pub struct Pool {
    core: Arc<Core>,
    /// Taken when the pool closes; it ends when the last call has given back its own.
    outbox: Mutex<Option<UnboundedSender<Vec<Flight>>>>,
}

impl Pool {
    /// A pool of `n` processes on the fleet's queue `default`. In Python this is `Pool(n)`.
    pub async fn new(broker: &Broker, n: usize) -> Result<Self, PoolError> {
        Self::builder(broker).processes(n).open().await
    }

    /// A pool that is set up in detail.
    #[must_use]
    pub fn builder(broker: &Broker) -> PoolBuilder {
        PoolBuilder::new(broker.clone())
    }

    fn with_parts(core: Arc<Core>, outbox: UnboundedSender<Vec<Flight>>) -> Self {
        Self {
            core,
            outbox: Mutex::new(Some(outbox)),
        }
    }

    /// How many chunks run at a time.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.core.processes
    }

    /// Takes no more calls; those under way go on to their end. In Python this is `Pool.close`.
    pub fn close(&self) {
        self.core.advance(Phase::Closed);
        drop(self.take_outbox());
    }

    /// Ends the pool now: what waits is cancelled, what runs is stopped, calls under way answer
    /// [`PoolError::Terminated`]. In Python this is `Pool.terminate`.
    pub fn terminate(&self) {
        self.core.advance(Phase::Terminating);
        drop(self.take_outbox());
    }

    /// Waits until the pool has ended, after `close` or `terminate`. In Python this is `Pool.join`.
    ///
    /// An [`Imap`] that was neither read to its end nor dropped holds up a pool that was closed.
    pub async fn join(&self) -> Result<(), PoolError> {
        if self.core.phase() == Phase::Running {
            return Err(PoolError::StillRunning);
        }
        while_waiting(self.core.reaches(Phase::Ended)).await;
        Ok(())
    }

    fn take_outbox(&self) -> Option<UnboundedSender<Vec<Flight>>> {
        let mut outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        outbox.take()
    }

    fn flow<A, R, I>(
        &self,
        task: Task<A, R>,
        items: I,
        chunksize: usize,
    ) -> Result<Flow<I>, PoolError>
    where
        A: Serialize,
        I: Iterator<Item = A>,
    {
        if chunksize == 0 {
            return Err(PoolError::BadChunksize);
        }
        let outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(outbox) = outbox
            .clone()
            .filter(|_| self.core.phase() == Phase::Running)
        else {
            return Err(self.core.refusal());
        };
        let name = task.name();
        if let Some(tasks) = &self.core.tasks
            && !tasks.contains(name)
        {
            let name = name.to_owned();
            return Err(PoolError::UnknownTask { name });
        }
        let pieces = Pieces::new(items, chunksize);
        Ok(Flow::new(self.core.clone(), outbox, name, pieces))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.terminate();
    }
}
