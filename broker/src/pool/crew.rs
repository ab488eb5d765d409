//! What a pool's own worker processes have to do with it, for whoever starts them.

use std::sync::Arc;

use super::PoolError;
use super::core::{Core, Phase};
use crate::task_queue::TaskQueue;

/// The link between a pool and those who keep its own worker processes running.
#[derive(Clone)]
pub struct CrewLink(pub(super) Arc<Core>);

impl CrewLink {
    /// The queue that the workers serve, which is this pool's alone.
    #[must_use]
    pub fn queue(&self) -> &TaskQueue {
        &self.0.queue
    }

    /// Waits until the pool needs no workers any more.
    pub async fn drained(&self) {
        self.0.reaches(Phase::Drained).await;
    }

    /// Waits until the pool shall stop what runs, which workers may not heed.
    pub async fn stopping(&self) {
        self.0.reaches(Phase::Terminating).await;
    }

    /// Gives the pool up, because its workers cannot be kept running.
    pub fn fail(&self, message: impl Into<String>) {
        let message = message.into();
        self.0.fail(PoolError::Workers { message });
    }

    /// Deletes the queue, once all workers have ended; [`Pool::join`](super::Pool::join) then returns.
    pub async fn end(&self) {
        if let Err(error) = self.0.queue.delete().await {
            tracing::warn!(target: "pmq", %error, "left the queue of a pool behind");
        }
        self.0.advance(Phase::Ended);
    }
}
