//! What the parts of a pool share: the chunks that are under way, and how far the pool has come to its end.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, watch};

use super::PoolError;
use super::batch::{self, Pace};
use super::bulk::Bulk;
use super::chunk::Done;
use super::preparation::Preparation;
use super::window::{Place, Window};
use crate::completion::{Completion, Outcome};
use crate::ids::{Incarnation, Name, TaskId};
use crate::task::{Chunk, Retry, Task};
use crate::task_queue::TaskQueue;

/// How far a pool has come. It only goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Running,
    /// It takes no new calls.
    Closed,
    /// What waits is cancelled, what runs is stopped.
    Terminating,
    /// Nothing is under way any more.
    Drained,
    /// Its own workers have ended too.
    Ended,
}

/// A chunk under way.
pub(super) struct Flight {
    pub(super) name: &'static str,
    pub(super) number: usize,
    pub(super) first: usize,
    pub(super) items: usize,
    pub(super) body: Bytes,
    /// Of its body, or what its results are expected to have, whichever are more.
    pub(super) bytes: usize,
    pub(super) reply: UnboundedSender<Done>,
    /// Whether it travels alone, because it did not arrive in company.
    pub(super) alone: bool,
    /// Held until it has ended.
    pub(super) place: Place,
}

impl Flight {
    pub(super) fn end(self, answer: Result<Bytes, PoolError>) {
        let weight = self.place.weight();
        drop(self.place);
        // Where nobody listens, nobody wants it any more.
        let _ = self.reply.send(Done {
            number: self.number,
            first: self.first,
            items: self.items,
            weight,
            answer,
        });
    }
}

/// What is left to do after a completion.
#[derive(Default)]
pub(super) struct Settled {
    /// Chunks that are to be sent again.
    pub(super) again: Vec<Flight>,
    /// Whether a dead letter is left.
    pub(super) is_buried: bool,
}

/// The heart of a pool.
pub(super) struct Core {
    pub(super) queue: TaskQueue,
    pub(super) owner: Incarnation,
    pub(super) completions: Name,
    /// What the header of each chunk says.
    pub(super) chunk: Chunk,
    pub(super) processes: usize,
    pub(super) window: Window,
    /// Whether several short chunks may be one task; not where tasks are counted.
    pub(super) may_travel_together: bool,
    /// The tasks that its workers know, where they are its own.
    pub(super) tasks: Option<HashSet<String>>,
    /// By their task; several may travel in one.
    flights: Mutex<HashMap<TaskId, Vec<Flight>>>,
    pace: Mutex<Pace>,
    pub(super) bulk: Bulk,
    landed: Notify,
    phase: watch::Sender<Phase>,
    failure: OnceLock<PoolError>,
    preparation: Preparation,
}

/// What a pool is made of.
pub(super) struct Parts {
    pub(super) queue: TaskQueue,
    pub(super) chunk: Chunk,
    pub(super) processes: usize,
    pub(super) window: Window,
    pub(super) may_travel_together: bool,
    pub(super) tasks: Option<HashSet<String>>,
}

impl Core {
    pub(super) fn new(parts: Parts, owner: Incarnation, completions: Name) -> Self {
        Self {
            queue: parts.queue,
            owner,
            completions,
            chunk: parts.chunk,
            processes: parts.processes,
            window: parts.window,
            may_travel_together: parts.may_travel_together,
            tasks: parts.tasks,
            flights: Mutex::default(),
            pace: Mutex::default(),
            bulk: Bulk::default(),
            landed: Notify::new(),
            phase: watch::channel(Phase::Running).0,
            failure: OnceLock::new(),
            preparation: Preparation::default(),
        }
    }

    /// The tasks for these chunks, which are under way from now on. They run once, unless their worker is lost.
    pub(super) fn launch(&self, flights: Vec<Flight>) -> Vec<Task> {
        let most = self.together();
        let mut under_way = self.flights();
        let mut launch = |flights: Vec<Flight>| {
            let task = self.task(&flights);
            under_way.insert(task.id, flights);
            task
        };
        batch::together(flights, most)
            .into_iter()
            .map(&mut launch)
            .collect()
    }

    /// How many chunks may travel together now, with enough left for each process.
    fn together(&self) -> usize {
        if !self.window.is_ahead() || !self.may_travel_together {
            return 1;
        }
        let is_idle = self.flights().is_empty();
        let mut pace = lock(&self.pace);
        if is_idle {
            pace.rest();
        }
        let fair = self.window.chunks().div_ceil(2 * self.processes);
        pace.together().min(fair.max(1))
    }

    fn task(&self, flights: &[Flight]) -> Task {
        let mut task = Task::handler(flights[0].name, batch::body(flights));
        task.owner = Some(self.owner);
        task.completions = Some(self.completions.clone());
        task.keep = false;
        task.retry.attempts = 1;
        let mut chunk = self.chunk.clone();
        if flights.len() > 1 {
            // Lost with their worker, they go on one by one, so that one which kills it does not take the others along.
            task.retry.crashes = 1;
            chunk.size = flights[0].items as u32;
        }
        task.details.chunk = Some(chunk);
        task
    }

    /// Takes the chunks of a task off the list of those under way; tells who waits for the last one.
    pub(super) fn land(&self, id: TaskId) -> Vec<Flight> {
        let mut under_way = self.flights();
        let flights = under_way.remove(&id).unwrap_or_default();
        if under_way.is_empty() {
            self.landed.notify_waiters();
        }
        flights
    }

    /// Ends the chunks of a task without a result.
    pub(super) fn give_up(&self, id: TaskId) {
        for flight in self.land(id) {
            flight.end(Err(self.why()));
        }
    }

    pub(super) fn under_way(&self) -> Vec<TaskId> {
        self.flights().keys().copied().collect()
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<TaskId, Vec<Flight>>> {
        lock(&self.flights)
    }

    /// Waits until nothing is under way.
    pub(super) async fn idle(&self) {
        loop {
            let landed = self.landed.notified();
            if self.flights().is_empty() {
                return;
            }
            landed.await;
        }
    }

    /// Gives a completion to the calls that wait.
    pub(super) fn settle(&self, completion: &Completion) -> Settled {
        let flights = self.land(completion.id);
        if flights.is_empty() {
            return Settled::default(); // it came twice, or its pool has given it up
        }
        if completion.outcome == Outcome::Ok {
            return match initializer_failure(&completion.body) {
                Some(message) => self.initializer_failed(flights, message),
                None => self.arrived(flights, completion),
            };
        }
        let mut settled = Settled {
            again: Vec::new(),
            is_buried: completion.outcome != Outcome::Cancelled,
        };
        if settled.is_buried && flights.len() > 1 && !self.is_stopped() {
            settled.again = flights;
            for flight in &mut settled.again {
                flight.alone = true;
            }
            return settled;
        }
        if is_lost(completion) && self.chunk.initializer.is_some() {
            self.preparation_lost();
        }
        for flight in flights {
            let error = failure(completion, flight.first);
            flight.end(Err(if self.is_stopped() { self.why() } else { error }));
        }
        settled
    }

    fn arrived(&self, flights: Vec<Flight>, completion: &Completion) -> Settled {
        self.preparation.done();
        let (all, name, items) = (flights.len(), flights[0].name, flights[0].items);
        let again = batch::share(flights, &completion.body);
        let micros = completion.finished_us.saturating_sub(completion.started_us);
        let ended = all - again.len();
        lock(&self.pace).took(Duration::from_micros(micros), ended);
        self.bulk.came(name, ended * items, completion.body.len());
        Settled {
            again,
            is_buried: false,
        }
    }

    fn initializer_failed(&self, flights: Vec<Flight>, message: String) -> Settled {
        tracing::warn!(target: "pmq", %message, "the initializer of a pool failed");
        if self.preparation.failed() {
            self.fail(PoolError::Initializer { message });
        }
        Settled {
            again: flights,
            is_buried: false,
        }
    }

    /// A chunk used up its crash budget.
    fn preparation_lost(&self) {
        if self.preparation.lost() {
            let workers = Retry::default().crashes.into();
            self.fail(PoolError::InitializerLost { workers });
        }
    }

    /// Gives the pool up for this reason, unless it has ended before.
    pub(super) fn fail(&self, error: PoolError) {
        let _ = self.failure.set(error);
        self.advance(Phase::Terminating);
    }

    /// Goes on to a phase, if the pool is not there yet.
    pub(super) fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let goes_on = *now < phase;
            *now = phase.max(*now);
            goes_on
        });
        if phase >= Phase::Terminating {
            self.window.close();
        }
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.phase() >= Phase::Terminating
    }

    /// Waits until the pool has come so far.
    pub(super) async fn reaches(&self, phase: Phase) {
        // The sender lives as long as `self`.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Why there will be no result any more.
    pub(super) fn why(&self) -> PoolError {
        self.failure.get().cloned().unwrap_or(PoolError::Terminated)
    }

    /// Why a new call is refused.
    pub(super) fn refusal(&self) -> PoolError {
        self.failure.get().cloned().unwrap_or(PoolError::Closed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a worker says instead of results where its initializer failed.
fn initializer_failure(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Failure {
        initializer: String,
    }
    if body.first() != Some(&b'{') {
        return None;
    }
    let failure: Failure = serde_json::from_slice(body).ok()?;
    Some(failure.initializer)
}

fn failure(completion: &Completion, index: usize) -> PoolError {
    let message = completion.report.error.clone().unwrap_or_default();
    match completion.outcome {
        Outcome::Cancelled => PoolError::Cancelled { index },
        _ if is_lost(completion) => PoolError::WorkerLost { index, message },
        _ => PoolError::Task { index, message },
    }
}

/// Whether workers died of it, as often as they may: only the broker ends a task of which no worker tells.
fn is_lost(completion: &Completion) -> bool {
    completion.outcome == Outcome::Dead && completion.worker.is_empty()
}
