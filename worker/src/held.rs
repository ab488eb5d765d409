//! What the worker holds of one shard: the only state that its roles share.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pmq_broker::task_queue::{Beat, Claim, Grant, Heartbeat, Order, Run, Shard, Signal};
use pmq_broker::{Incarnation, TaskId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::lives::{Life, Lives};

/// Why a run shall stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Somebody cancelled the task.
    Cancelled = 1,
    /// The lease ended: another worker may run it.
    Lost = 2,
    /// The worker stops, and hands it back.
    Shutdown = 3,
}

/// How a run is asked to stop.
#[derive(Clone, Default)]
pub(crate) struct StopSwitch {
    /// Stop, in your own way.
    pub(crate) stop: CancellationToken,
    rest: Arc<Rest>,
}

/// What only commands ask for is made when it is asked for: most runs are too short for it.
#[derive(Default)]
struct Rest {
    why: AtomicU8,
    interrupt: OnceLock<CancellationToken>,
    kill: OnceLock<CancellationToken>,
}

impl StopSwitch {
    /// Stop, by SIGINT where it is a command.
    pub(crate) fn interrupt(&self) -> &CancellationToken {
        self.rest.interrupt.get_or_init(CancellationToken::new)
    }

    /// Be gone.
    pub(crate) fn kill(&self) -> &CancellationToken {
        self.rest.kill.get_or_init(CancellationToken::new)
    }

    /// The first reason stays.
    fn pull(&self, why: Why, signal: Signal) {
        let first = &self.rest.why;
        let _ = first.compare_exchange(0, why as u8, Ordering::Relaxed, Ordering::Relaxed);
        match signal {
            Signal::Terminate => {}
            Signal::Interrupt => self.interrupt().cancel(),
            Signal::Kill => self.kill().cancel(),
        }
        self.stop.cancel();
    }

    /// The strongest signal so far.
    pub(crate) fn signal(&self) -> Signal {
        if self.kill().is_cancelled() {
            Signal::Kill
        } else if self.interrupt().is_cancelled() {
            Signal::Interrupt
        } else {
            Signal::Terminate
        }
    }

    pub(crate) fn why(&self) -> Option<Why> {
        [Why::Cancelled, Why::Lost, Why::Shutdown]
            .into_iter()
            .find(|why| *why as u8 == self.rest.why.load(Ordering::Relaxed))
    }
}

/// One shard of a queue, as this worker serves it.
pub(crate) struct Line {
    /// Its place among the lines of the worker.
    pub(crate) index: usize,
    pub(crate) shard: Shard,
    lives: Mutex<Lives>,
    held: Mutex<HashMap<TaskId, (Run, StopSwitch)>>,
    /// Stop orders for tasks that are not held: a claim may be under way that brings them.
    early: Mutex<HashMap<TaskId, Signal>>,
    /// Whether some worker's lease has ended there.
    lease_ended: AtomicBool,
    /// Told when something is no longer held.
    pub(crate) freed: Arc<Notify>,
}

impl Line {
    pub(crate) fn new(index: usize, shard: Shard, freed: Arc<Notify>) -> Self {
        Self {
            index,
            shard,
            lives: Mutex::new(Lives::new(Incarnation::new())),
            held: Mutex::default(),
            early: Mutex::default(),
            lease_ended: AtomicBool::new(false),
            freed,
        }
    }

    /// The same shard, where the worker is known as this incarnation.
    pub(crate) fn served_as(self, incarnation: Incarnation) -> Self {
        Self {
            lives: Mutex::new(Lives::new(incarnation)),
            ..self
        }
    }

    /// The incarnation under which the worker claims.
    pub(crate) fn incarnation(&self) -> Incarnation {
        lock(&self.lives).now()
    }

    /// The present life, then former ones.
    pub(crate) fn lives(&self) -> Vec<Life> {
        lock(&self.lives).all().collect()
    }

    /// Whether the worker is known there as this incarnation, or was and still has runs of it.
    pub(crate) fn is(&self, who: &[u8]) -> bool {
        lock(&self.lives)
            .all()
            .any(|life| life.who.as_bytes() == who)
    }

    /// A claim under this incarnation brought tasks.
    pub(crate) fn grant(&self, who: Incarnation, granted: Grant) {
        lock(&self.lives).grant(who, granted);
    }

    /// Before the first run of this shard, asks what the broker has lived through, so that the first heartbeat does not
    /// pass for one of another history. Where it does not answer, that heartbeat will.
    pub(crate) async fn learn_history(&self, who: Incarnation, lease: Duration) {
        if !lock(&self.lives).know_no_history() {
            return;
        }
        let beat = Heartbeat {
            who,
            lease,
            idle: None,
            carried_out: Bytes::new(),
        };
        match self.shard.heartbeat(&beat).await {
            Ok(beat) => lock(&self.lives).learn_history(&beat.history),
            Err(error) => tracing::debug!(target: "pmq", %error, "the first heartbeat failed"),
        }
    }

    /// A heartbeat was answered; answers whether the worker goes on under a new incarnation.
    pub(crate) fn hear(&self, life: Life, beat: &Beat) -> bool {
        lock(&self.lives).hear(life, beat)
    }

    /// A former life is over.
    pub(crate) fn retire(&self, who: Incarnation) {
        lock(&self.lives).end(who);
    }

    /// The lease of `lost` has ended: what it held is stopped, and the worker goes on as somebody new.
    pub(crate) fn lose(&self, lost: Incarnation) {
        let mut lives = lock(&self.lives);
        if lives.end(lost) {
            for (run, switch) in lock(&self.held).values() {
                if run.worker() == Some(lost) {
                    switch.pull(Why::Lost, Signal::Terminate);
                }
            }
        }
    }

    /// Holds what a claim brought; answers a switch for each.
    pub(crate) fn hold(&self, claims: &[Claim]) -> Vec<StopSwitch> {
        let switches: Vec<StopSwitch> = claims.iter().map(|_| StopSwitch::default()).collect();
        let mut held = lock(&self.held);
        for (claim, switch) in claims.iter().zip(&switches) {
            held.insert(claim.id, (claim.run.clone(), switch.clone()));
        }
        drop(held);
        // What is left was for tasks that had ended before.
        let mut early = std::mem::take(&mut *lock(&self.early));
        if !early.is_empty() {
            for (claim, switch) in claims.iter().zip(&switches) {
                if let Some(signal) = early.remove(&claim.id) {
                    switch.pull(Why::Cancelled, signal);
                }
            }
        }
        switches
    }

    /// These runs have ended. Another run of the same task, claimed since, stays.
    pub(crate) fn let_go<'a>(&self, runs: impl IntoIterator<Item = (TaskId, &'a Run)>) {
        let (now, mut ended) = (self.incarnation(), false);
        let mut held = lock(&self.held);
        for (id, run) in runs {
            ended |= run.worker() == Some(now);
            if let Entry::Occupied(entry) = held.entry(id)
                && entry.get().0 == *run
            {
                entry.remove();
            }
        }
        drop(held);
        if ended {
            lock(&self.lives).note_end(now);
        }
        self.freed.notify_waiters();
    }

    /// Some worker's lease has ended: the reclaimer is told.
    pub(crate) fn tell_lease_ended(&self, reclaimer: &Notify) {
        self.lease_ended.store(true, Ordering::Relaxed);
        reclaimer.notify_one();
    }

    /// Whether that was told since the last look.
    pub(crate) fn take_lease_ended(&self) -> bool {
        self.lease_ended.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.held).len()
    }

    /// Whether it holds anything of this incarnation.
    pub(crate) fn holds_of(&self, who: Incarnation) -> bool {
        let held = lock(&self.held);
        held.values().any(|(run, _)| run.worker() == Some(who))
    }

    /// Whether it holds this run.
    pub(crate) fn holds(&self, id: &TaskId, run: &Run) -> bool {
        lock(&self.held)
            .get(id)
            .is_some_and(|(held, _)| held == run)
    }

    pub(crate) fn carry_out(&self, order: Order) {
        match lock(&self.held).get(&order.id) {
            Some((_, switch)) => switch.pull(Why::Cancelled, order.signal),
            None => drop(lock(&self.early).insert(order.id, order.signal)),
        }
    }

    pub(crate) fn stop_all(&self, why: Why, signal: Signal) {
        for (_, switch) in lock(&self.held).values() {
            switch.pull(why, signal);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
