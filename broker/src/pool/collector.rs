//! The collector: gets the completions of a pool's chunks and gives them to the calls that wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::WeakUnboundedSender;
use tokio::time::sleep;

use super::core::{Core, Flight, Phase};
use crate::completion::Completion;
use crate::ids::TaskId;
use crate::task_queue::{CHUNK, Consumer};

/// Shorter than the owner's lease: what a killed pool took goes back before its completion queue is deleted.
pub(super) const LEASE: Duration = Duration::from_secs(8);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub(super) struct Collector {
    pub(super) core: Arc<Core>,
    pub(super) consumer: Consumer,
    /// For chunks that are to be sent again.
    pub(super) outbox: WeakUnboundedSender<Vec<Flight>>,
}

impl Collector {
    /// Collects until nothing is under way any more.
    pub(super) async fn run(mut self) {
        self.collect().await;
        if let Err(error) = self.consumer.close().await {
            tracing::debug!(target: "pmq", %error, "a pool's completions are left to their lease");
        }
    }

    async fn collect(&mut self) {
        loop {
            // Only the wait ends early: what has come is settled to the end, dead letters included.
            let got = tokio::select! {
                () = self.core.reaches(Phase::Drained) => return,
                got = self.consumer.get_many(CHUNK, LONGEST_WAIT) => got,
            };
            match got {
                Ok(completions) => self.settle(&completions).await,
                Err(error) if error.is_transient() => {
                    tracing::debug!(target: "pmq", %error, "could not get completions; trying again");
                    sleep(Duration::from_millis(fastrand::u64(50..500))).await;
                }
                Err(error) => return self.core.fail(error.into()),
            }
        }
    }

    async fn settle(&self, completions: &[Completion]) {
        let mut buried = Vec::new();
        for completion in completions {
            let settled = self.core.settle(completion);
            if settled.is_buried {
                buried.push(completion.id);
            }
            self.send_again(settled.again);
        }
        self.purge(&buried).await;
    }

    fn send_again(&self, flights: Vec<Flight>) {
        if flights.is_empty() {
            return;
        }
        let refused = match self.outbox.upgrade() {
            Some(outbox) => outbox.send(flights).err().map(|refused| refused.0),
            None => Some(flights),
        };
        for flight in refused.into_iter().flatten() {
            flight.end(Err(self.core.why()));
        }
    }

    /// A chunk that came to no end is told to its caller, and nobody else's business.
    async fn purge(&self, dead: &[TaskId]) {
        for some in dead.chunks(100) {
            if let Err(error) = self.core.queue.purge_dead(Some(some)).await {
                tracing::warn!(target: "pmq", %error, "left a dead letter of a pool behind");
            }
        }
    }
}
