//! The claimer: the loop that is the seed of the whole program.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pmq_broker::task_queue::{Ask, Claim, Claimed, Claimer, Waiter};
use pmq_broker::{Error, Incarnation};
use tokio::time::{Instant, sleep};

use crate::Options;
use crate::executor::{Assignment, Executor};
use crate::held::Line;
use crate::slots::{FreeSlots, Slots};
use crate::staff::Bells;

/// How long an idle worker waits for a token, with jitter; then it looks by itself.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const CLAIM_AT_MOST: usize = 500;

/// Claims tasks for free slots, from the queues in their order.
pub(crate) struct ClaimLoop {
    lines: Vec<Arc<Line>>,
    /// One a line, each with the incarnation that it claims for.
    claimers: Vec<(Incarnation, Claimer)>,
    slots: Slots,
    executor: Executor,
    waiter: Waiter,
    bells: Bells,
    /// The queue whose wake token this worker has taken, until it has asked that queue.
    woken: Option<usize>,
    /// Whether the broker was away when it was last asked.
    away: bool,
    burst: bool,
    lease: Duration,
    /// How many tasks it may claim yet.
    left: usize,
}

/// What asking all queues gave.
enum Got {
    /// Tasks, and more may be ready.
    Tasks,
    /// All that was ready, and it fills the slots: with the next free one wait for a token, for this time at the longest.
    Last(Duration),
    /// All that was ready, or nothing, and slots are free; claim again after this time at the latest.
    Empty(Duration),
}

impl ClaimLoop {
    pub(crate) fn new(
        lines: &[Arc<Line>],
        options: &Options,
        executor: Executor,
        bells: Bells,
    ) -> Self {
        let claimer = |line: &Arc<Line>| {
            let who = line.incarnation();
            (
                who,
                line.queue
                    .claimer(who, options.lease, options.completions.as_ref()),
            )
        };
        Self {
            lines: lines.to_vec(),
            claimers: lines.iter().map(claimer).collect(),
            slots: Slots::new(options.slots, bells.freed.clone()),
            executor,
            waiter: Waiter::for_tasks(lines.iter().map(|line| &line.queue), LONGEST_WAIT),
            bells,
            woken: None,
            away: false,
            burst: options.burst,
            lease: options.lease,
            left: options.max_tasks.unwrap_or(usize::MAX),
        }
    }

    /// Gets tasks until there are none (burst), the worker shall stop, or the broker refuses it.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        let bell = self.bells.freed.clone();
        while self.left > 0
            && let Some(mut free) = self.free_slots().await
        {
            // Listened for before it asks, so that no end of a run is missed.
            let freed = bell.notified();
            match self.get_nowait(&mut free).await {
                Ok(Got::Tasks) => {}
                Ok(Got::Last(longest)) => {
                    drop(free);
                    if self.free_slots().await.is_some() {
                        self.wait_for_task(longest).await;
                    }
                }
                Ok(Got::Empty(_)) if self.burst && free.are_all() => break,
                Ok(Got::Empty(longest)) if self.burst => self.wait_for_end(freed, longest).await,
                Ok(Got::Empty(longest)) => self.wait_for_task(longest).await,
                Err(error) => self.recover(error).await?,
            }
        }
        Ok(())
    }

    /// Waits for a free slot; `None` once the worker shall stop. The pulse goes on meanwhile.
    async fn free_slots(&mut self) -> Option<FreeSlots> {
        if self.slots.none_is_free() {
            // A lender took back the slot for which the token came.
            self.give_token_back();
        }
        loop {
            self.bells.pulse.beat();
            tokio::select! {
                biased;
                () = self.bells.shutdown.cancelled() => return None,
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
            let n = free.len().min(CLAIM_AT_MOST).min(self.left);
            let ask = Ask {
                n,
                suspect: !self.slots.has_suspect(),
                wait: !self.burst,
            };
            let claimed = self.claimer(i).get_nowait(ask).await?;
            if claimed.lease_ended {
                self.bells.reclaim.notify_one();
            }
            if std::mem::take(&mut self.away) {
                tracing::warn!(target: "pmq", "the broker is back");
            }
            self.woken.take_if(|queue| *queue == i);
            let wait = claimed.wait;
            let started = self.start(i, claimed, free);
            self.left -= started;
            let last = i + 1 == self.lines.len();
            let over = started > 0 && (self.burst || self.left == 0 || started == n && !last);
            if over || wait == Some(Duration::ZERO) {
                self.give_token_back();
                return Ok(Got::Tasks);
            }
            longest = wait.map_or(longest, |wait| wait.min(longest));
            if started == n {
                return Ok(if free.len() == 0 {
                    Got::Last(longest)
                } else {
                    Got::Tasks
                });
            }
        }
        Ok(Got::Empty(longest))
    }

    /// A token of a queue that was not asked, as an earlier one had work, is for another worker.
    fn give_token_back(&mut self) {
        if let Some(i) = self.woken.take() {
            let queue = self.lines[i].queue.clone();
            tokio::spawn(async move {
                if let Err(error) = queue.pass_wake().await {
                    tracing::debug!(target: "pmq", %error, "could not give a wake token back");
                }
            });
        }
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

    /// Starts what a claim gave; answers how many.
    fn start(&self, i: usize, mut got: Claimed, free: &mut FreeSlots) -> usize {
        let (line, claimer, since) = (&self.lines[i], &self.claimers[i], Instant::now());
        let count = got.tasks.len();
        if claimer.0 != line.incarnation() {
            hand_back(line, got.tasks);
            return count;
        }
        line.claimed.store(claimer.1.number(), Ordering::Relaxed);
        // A claim that is answered again may bring more than there is room for now.
        let beyond = got.tasks.split_off(free.len().min(count));
        if !beyond.is_empty() {
            hand_back(line, beyond);
        }
        let switches = line.hold(&got.tasks);
        let assignments = got.tasks.into_iter().zip(switches);
        let assignments = assignments.filter_map(|(claim, switch)| {
            Some(Assignment {
                slot: free.fill(claim.is_suspect())?,
                claim,
                switch,
                line: line.clone(),
                since,
            })
        });
        self.executor.start(assignments.collect());
        count
    }

    /// Waits for a wake token, or for the time to claim again.
    async fn wait_for_task(&mut self, longest: Duration) {
        tokio::select! {
            biased;
            () = self.bells.shutdown.cancelled() => {}
            token = self.waiter.wait(longest) => match token {
                Ok(queue) => self.woken = queue,
                Err(error) => {
                    tracing::debug!(target: "pmq", %error, "waiting for tasks");
                    sleep(Duration::from_millis(500).min(longest)).await;
                }
            },
        }
    }

    /// Waits until one of the runs under way has ended: it may have left another task.
    async fn wait_for_end(&self, freed: impl Future<Output = ()>, longest: Duration) {
        tokio::select! {
            () = self.bells.shutdown.cancelled() => {}
            () = freed => {}
            () = sleep(longest) => {}
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
                if !self.away {
                    tracing::warn!(target: "pmq", %error, "the broker is away; running tasks go on, and their ends are kept");
                }
                self.away = true;
                sleep(Duration::from_millis(fastrand::u64(50..500))).await;
                Ok(())
            }
            error => Err(error),
        }
    }
}

/// Hands back what was claimed for a life of this worker that ended meanwhile: nobody renews its lease.
fn hand_back(line: &Line, claims: Vec<Claim>) {
    let queue = line.queue.clone();
    let runs: Vec<_> = claims
        .into_iter()
        .map(|claim| (claim.id, claim.run))
        .collect();
    tokio::spawn(async move {
        if let Err(error) = queue.release(&runs).await {
            tracing::debug!(target: "pmq", %error, "could not hand back late claims");
        }
    });
}
