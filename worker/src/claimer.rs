//! The claimer: the loop that is the seed of the whole program.

use std::sync::Arc;
use std::time::Duration;

use pmq_broker::task_queue::{Ask, Claim, Claimed, Claimer, Grant, Waiter};
use pmq_broker::{Error, Incarnation};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::Options;
use crate::executor::{Assignment, Executor};
use crate::held::Line;
use crate::slots::{FreeSlots, Slots};
use crate::staff::Bells;
use crate::turns::Turns;

/// How long an idle worker waits for a token, with jitter; then it looks by itself.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const CLAIM_AT_MOST: usize = 500;
/// How long a claim may take where other shards may answer meanwhile.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// When a worker that is refused asks again: its rights or its password may be changed back.
const REFUSED: Duration = Duration::from_secs(5);

/// Claims tasks for free slots, from the queues in their order and their shards in turn.
pub(crate) struct ClaimLoop {
    lines: Vec<Arc<Line>>,
    /// One a line, each with the incarnation that it claims for.
    claimers: Vec<(Incarnation, Claimer)>,
    turns: Turns,
    slots: Slots,
    executor: Executor,
    waiter: Waiter,
    bells: Bells,
    /// The line whose wake token this worker has taken, until it has asked there.
    woken: Option<usize>,
    /// Whether the broker was away when it was last asked.
    away: bool,
    /// Whether a claim was ever answered: a worker that is refused from the start is set up wrongly.
    served: bool,
    burst: bool,
    lease: Duration,
    /// How many tasks it may claim yet.
    left: usize,
}

/// What a round of claims gave.
enum Got {
    /// Tasks, and more may be ready.
    Tasks,
    /// All that was ready, and it fills the slots: with the next free one wait for a token.
    Last,
    /// All that was ready, or nothing, and slots are free; whether each line was asked for that.
    Empty(bool),
}

impl ClaimLoop {
    pub(crate) fn new(
        lines: &[Arc<Line>],
        options: &Options,
        executor: Executor,
        bells: Bells,
    ) -> Self {
        let queues = lines.chunk_by(|a, b| a.shard.queue() == b.shard.queue());
        let shards: Vec<usize> = queues.map(<[_]>::len).collect();
        Self {
            lines: lines.to_vec(),
            claimers: lines.iter().map(|line| claimer(line, options)).collect(),
            turns: Turns::new(&shards, Instant::now()),
            slots: Slots::new(options.slots, bells.freed.clone()),
            executor,
            waiter: Waiter::for_tasks(lines.iter().map(|line| &line.shard), LONGEST_WAIT),
            bells,
            woken: None,
            away: false,
            served: false,
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
                Ok(Got::Last) => {
                    drop(free);
                    if self.free_slots().await.is_some() {
                        self.wait_for_task().await;
                    }
                }
                Ok(Got::Empty(true)) if self.burst && free.are_all() => break,
                Ok(Got::Empty(_)) if self.burst && free.are_all() && !self.turns.misses_some() => {
                    self.turns.rouse();
                }
                Ok(Got::Empty(_)) if self.burst => self.wait_for_end(freed).await,
                Ok(Got::Empty(_)) => self.wait_for_task().await,
                Err((line, error)) => self.recover(line, error).await?,
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
            let longest = until(self.turns.watch(), LONGEST_WAIT);
            tokio::select! {
                biased;
                () = self.bells.shutdown.cancelled() => return None,
                free = self.slots.free() => return Some(free),
                () = sleep(longest) => self.hand_watches_over(),
            }
        }
    }

    /// Asks one line after the other, until the slots are full or none has tasks, and starts what they give.
    async fn get_nowait(&mut self, free: &mut FreeSlots) -> Result<Got, (usize, Error)> {
        self.turns.begin(Instant::now());
        let mut asked = 0;
        while let Some(i) = self.turns.next() {
            if asked > 0 && self.bells.shutdown.is_cancelled() {
                return Ok(Got::Tasks);
            }
            self.bells.pulse.beat();
            let n = free.len().min(CLAIM_AT_MOST).min(self.left);
            let Some(claimed) = self.claim(i, n).await? else {
                continue;
            };
            asked += 1;
            let wait = claimed.wait;
            self.turns.answered(i, wait, Instant::now());
            let started = self.start(i, claimed, free).await;
            self.left -= started;
            let last = !self.turns.has_next();
            let over = started > 0 && (self.burst || self.left == 0 || started == n && !last);
            if over || wait == Some(Duration::ZERO) {
                self.give_token_back();
                return Ok(Got::Tasks);
            }
            if started == n {
                return Ok(if free.len() == 0 {
                    Got::Last
                } else {
                    Got::Tasks
                });
            }
        }
        Ok(Got::Empty(asked == self.lines.len()))
    }

    /// Asks one line; `None` where it does not answer although others may.
    async fn claim(&mut self, i: usize, n: usize) -> Result<Option<Claimed>, (usize, Error)> {
        let ask = Ask {
            n,
            suspect: !self.slots.has_suspect(),
            wait: !self.burst,
        };
        let line = self.lines[i].clone();
        let claimed = match self.claimer(i).get_nowait(ask).await {
            Ok(claimed) => claimed,
            Err(error) if error.is_transient() && stands_alone(&line) => {
                let (queue, shard) = (line.shard.queue(), line.shard.number());
                tracing::warn!(target: "pmq", %error, %queue, shard, "a shard does not answer; the tasks on its server wait");
                self.set_aside(&line);
                return Ok(None);
            }
            Err(error) => return Err((i, error)),
        };
        self.served = true;
        if claimed.lease_ended {
            line.tell_lease_ended(&self.bells.reclaim);
        }
        if std::mem::take(&mut self.away) {
            tracing::warn!(target: "pmq", "the broker is back");
            self.turns.rouse();
        }
        let was_woken = self.woken.take_if(|woken| *woken == i).is_some();
        if was_woken && claimed.wait == Some(Duration::ZERO) {
            // What is left is for the next who waits.
            tokio::spawn(async move { line.shard.announce(1).await });
        }
        Ok(Some(claimed))
    }

    /// Goes to other servers first: the lines of the one that does not answer for this line would not either.
    fn set_aside(&mut self, silent: &Line) {
        for (j, line) in self.lines.iter().enumerate() {
            if line.shard.is_beside(&silent.shard) {
                self.turns.set_aside(j);
            }
        }
    }

    /// All slots are busy, so others have to ask the lines whose clocks this worker watched.
    fn hand_watches_over(&mut self) {
        for line in self.turns.take_due(Instant::now()) {
            self.pass_wake(line);
        }
    }

    /// A token of a line that was not asked, as an earlier one had work, is for another worker.
    fn give_token_back(&mut self) {
        if let Some(line) = self.woken.take() {
            self.pass_wake(line);
        }
    }

    /// Wakes another worker for a line.
    fn pass_wake(&self, line: usize) {
        let shard = self.lines[line].shard.clone();
        tokio::spawn(async move {
            if let Err(error) = shard.pass_wake().await {
                tracing::debug!(target: "pmq", %error, "could not give a wake token back");
            }
        });
    }

    /// The claimer of a line, for the worker as it is known there now.
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
    async fn start(&self, i: usize, mut got: Claimed, free: &mut FreeSlots) -> usize {
        let (line, claimer, since) = (&self.lines[i], &self.claimers[i], Instant::now());
        let count = got.tasks.len();
        if count > 0 {
            line.learn_history(claimer.0, self.lease).await;
        }
        if claimer.0 != line.incarnation() {
            hand_back(line, got.tasks);
            return count;
        }
        if let Some(first) = got.tasks.first() {
            let (number, token) = (claimer.1.number(), first.run.token());
            line.grant(claimer.0, Grant { number, token });
        }
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
        self.executor.start(assignments.collect()).await;
        count
    }

    /// Waits for a wake token, or for the time to claim again.
    async fn wait_for_task(&mut self) {
        // The ends of what has run here meanwhile leave first: nobody waits for the wait.
        yield_now().await;
        let longest = self.longest_wait();
        self.turns.wait(Instant::now());
        tokio::select! {
            biased;
            () = self.bells.shutdown.cancelled() => {}
            token = self.waiter.wait(longest) => match token {
                Ok(Some(line)) => {
                    self.woken = Some(line);
                    self.turns.hear(line);
                }
                Ok(None) => self.turns.look(),
                Err(error) => {
                    tracing::debug!(target: "pmq", %error, "waiting for tasks");
                    sleep(Duration::from_millis(500).min(longest)).await;
                    self.turns.rouse();
                }
            },
        }
        self.turns.wait(Instant::now());
    }

    /// Waits until one of the runs under way has ended: it may have left another task.
    async fn wait_for_end(&mut self, freed: impl Future<Output = ()>) {
        let longest = self.longest_wait();
        tokio::select! {
            () = self.bells.shutdown.cancelled() => {}
            () = freed => {}
            () = sleep(longest) => {}
        }
        self.turns.look();
    }

    /// How long to wait where no news comes, with jitter.
    fn longest_wait(&self) -> Duration {
        let longest = LONGEST_WAIT.min(self.lease / 3);
        let longest = longest.mul_f64(1.0 - fastrand::f64() * 0.2);
        until(self.turns.deadline(), longest)
    }

    /// After an outage it goes on, and where it is refused later than at the start; under a lost lease it goes on as
    /// somebody new; anything else ends the worker.
    async fn recover(&mut self, line: usize, error: Error) -> Result<(), Error> {
        match error {
            Error::LeaseLost { .. } => {
                self.lines[line].lose(self.claimers[line].0);
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
            error @ (Error::Denied { .. } | Error::Login { .. }) if self.served => {
                tracing::error!(target: "pmq", %error, hint = error.hint(), "the broker refuses this worker now; trying again every {REFUSED:?}");
                self.away = true;
                tokio::select! {
                    () = self.bells.shutdown.cancelled() => {}
                    () = sleep(REFUSED) => {}
                }
                Ok(())
            }
            error => Err(error),
        }
    }
}

/// How long until then, at most so long.
fn until(at: Option<Instant>, longest: Duration) -> Duration {
    at.map_or(longest, |at| {
        longest.min(at.saturating_duration_since(Instant::now()))
    })
}

/// A claimer of this line, and the incarnation that it claims for.
fn claimer(line: &Line, options: &Options) -> (Incarnation, Claimer) {
    let who = line.incarnation();
    let completions = options.completions.as_ref();
    let claimer = line.shard.claimer(who, options.lease, completions);
    let claimer = if stands_alone(line) {
        claimer.with_patience(SHORT_PATIENCE)
    } else {
        claimer
    };
    (who, claimer)
}

/// Whether others may answer where this line does not: on a Cluster each shard has a server of its own.
fn stands_alone(line: &Line) -> bool {
    line.shard.is_on_cluster()
}

/// Hands back what was claimed for a life of this worker that ended meanwhile: nobody renews its lease.
fn hand_back(line: &Line, claims: Vec<Claim>) {
    let shard = line.shard.clone();
    let runs: Vec<_> = claims
        .into_iter()
        .map(|claim| (claim.id, claim.run))
        .collect();
    tokio::spawn(async move {
        if let Err(error) = shard.release(&runs).await {
            tracing::debug!(target: "pmq", %error, "could not hand back late claims");
        }
    });
}
