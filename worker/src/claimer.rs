//! The claimer: the loop that is the seed of the whole program.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pmq_broker::task_queue::{Ask, Claimed, Claimer, Waiter};
use pmq_broker::{Error, Incarnation, PATIENCE};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::executor::Executor;
use crate::health::Pulse;
use crate::held::Line;
use crate::slots::{FreeSlots, Slots};

/// How long an idle worker waits for a token, with jitter; then it looks by itself.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const CLAIM_AT_MOST: usize = 500;

/// Claims tasks for free slots, from the queues in their order.
pub(crate) struct ClaimLoop {
    pub(crate) lines: Vec<Arc<Line>>,
    pub(crate) claimers: Vec<(Incarnation, Claimer)>,
    pub(crate) slots: Slots,
    pub(crate) executor: Executor,
    pub(crate) waiter: Waiter,
    pub(crate) reclaim: Arc<Notify>,
    pub(crate) pulse: Pulse,
    pub(crate) burst: bool,
    pub(crate) lease: Duration,
    pub(crate) shutdown: CancellationToken,
}

/// What asking all queues gave.
enum Got {
    /// As many tasks as were started.
    Tasks,
    /// Nothing is ready; claim again after this time at the latest.
    Empty(Duration),
}

impl ClaimLoop {
    /// Gets tasks until there are none (burst), the worker shall stop, or the broker refuses it.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        while let Some(mut free) = self.free_slots().await {
            match self.get_nowait(&mut free).await {
                Ok(Got::Tasks) => {}
                Ok(Got::Empty(_)) if self.burst && free.are_all() => break,
                Ok(Got::Empty(longest)) => self.wait(longest, &free).await,
                Err(error) => self.recover(error).await?,
            }
        }
        Ok(())
    }

    /// Waits for a free slot; `None` once the worker shall stop. The pulse goes on meanwhile.
    async fn free_slots(&self) -> Option<FreeSlots> {
        loop {
            self.pulse.beat();
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                free = self.slots.free() => return Some(free),
                () = sleep(LONGEST_WAIT) => {}
            }
        }
    }

    /// Asks each queue in turn; starts what the first that has any gives.
    async fn get_nowait(&mut self, free: &mut FreeSlots) -> Result<Got, Error> {
        let mut longest = LONGEST_WAIT.min(self.lease / 3);
        longest -= longest.mul_f64(fastrand::f64() * 0.2);
        for i in 0..self.lines.len() {
            let n = free.len().min(CLAIM_AT_MOST);
            let ask = Ask {
                n,
                suspect: !self.slots.has_suspect(),
                wait: !self.burst,
            };
            let claimed = self.claimer(i).get_nowait(ask).await?;
            if self.start(i, claimed, free, &mut longest).is_break() {
                return Ok(Got::Tasks);
            }
        }
        Ok(Got::Empty(longest))
    }

    /// The claimer of a queue, for the worker as it is known there now.
    fn claimer(&mut self, i: usize) -> &mut Claimer {
        let line = &self.lines[i];
        let incarnation = line.incarnation();
        let (known, claimer) = &mut self.claimers[i];
        if *known != incarnation {
            *known = incarnation;
            claimer.become_incarnation(incarnation);
        }
        claimer
    }

    fn start(
        &mut self,
        i: usize,
        claimed: Claimed,
        free: &mut FreeSlots,
        longest: &mut Duration,
    ) -> ControlFlow<()> {
        let (line, (incarnation, claimer)) = (&self.lines[i], &self.claimers[i]);
        if claimed.lease_ended {
            self.reclaim.notify_one();
        }
        *longest = claimed.wait.map_or(*longest, |wait| wait.min(*longest));
        if *incarnation == line.incarnation() {
            line.claimed.store(claimer.number(), Ordering::Relaxed);
        }
        let again = claimed.wait == Some(Duration::ZERO);
        if claimed.tasks.is_empty() {
            return if again {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            };
        }
        let since = Instant::now();
        for claim in claimed.tasks {
            if let Some(slot) = free.fill(claim.is_suspect()) {
                self.executor.start(line.clone(), claim, slot, since);
            }
        }
        ControlFlow::Break(())
    }

    /// Waits for a token, for a slot that became free with work behind it, or for the time to claim again.
    async fn wait(&self, longest: Duration, free: &FreeSlots) {
        let freed = self.lines[0].freed.notified();
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => {}
            () = freed, if self.burst && !free.are_all() => {}
            token = self.waiter.wait(longest), if !self.burst => {
                if let Err(error) = token {
                    tracing::debug!(target: "pmq", %error, "waiting for tasks");
                    sleep(Duration::from_millis(200).min(longest)).await;
                }
            }
            () = sleep(longest), if self.burst => {}
        }
    }

    /// After an outage it goes on; under a lost lease it goes on as somebody new; anything else ends the worker.
    async fn recover(&mut self, error: Error) -> Result<(), Error> {
        match error {
            Error::LeaseLost { queue } => {
                for (line, (incarnation, _)) in self.lines.iter().zip(&self.claimers) {
                    if *line.queue.name() == queue {
                        line.lose(*incarnation);
                    }
                }
                Ok(())
            }
            error if error.is_transient() => {
                tracing::warn!(target: "pmq", %error, "the broker is away; still trying every {PATIENCE:?}");
                sleep(Duration::from_millis(fastrand::u64(50..500))).await;
                Ok(())
            }
            error => Err(error),
        }
    }
}
