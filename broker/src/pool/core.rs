//! What the parts of a pool share: the chunks that are under way, and how far the pool has come to its end.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, watch};

use super::PoolError;
use super::chunk::Done;
use super::window::{Place, Window};
use crate::completion::{Completion, Outcome};
use crate::ids::{Incarnation, Name, TaskId};
use crate::task::{Chunk, Retry, Task};
use crate::task_queue::TaskQueue;

/// So many failures of the initializer in a row end the pool, where Python would start workers for ever.
const INITIALIZER_FAILURES: u32 = 3;

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
    pub(super) reply: UnboundedSender<Done>,
    /// Held until it has ended.
    pub(super) place: Place,
}

impl Flight {
    pub(super) fn end(self, answer: Result<Bytes, PoolError>) {
        drop(self.place);
        // Where nobody listens, nobody wants it any more.
        let _ = self.reply.send(Done {
            number: self.number,
            first: self.first,
            items: self.items,
            answer,
        });
    }
}

/// What became of a chunk whose completion came.
pub(super) enum Settled {
    /// Its call has the answer.
    Ended,
    /// It is a dead letter, which its pool removes.
    Buried,
    /// Its worker's initializer failed: it is to be sent again.
    Again(Flight),
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
    /// The tasks that its workers know, where they are its own.
    pub(super) tasks: Option<HashSet<String>>,
    flights: Mutex<HashMap<TaskId, Flight>>,
    landed: Notify,
    phase: watch::Sender<Phase>,
    failure: OnceLock<PoolError>,
    initializer_failures: AtomicU32,
}

/// What a pool is made of.
pub(super) struct Parts {
    pub(super) queue: TaskQueue,
    pub(super) chunk: Chunk,
    pub(super) processes: usize,
    pub(super) window: Window,
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
            tasks: parts.tasks,
            flights: Mutex::default(),
            landed: Notify::new(),
            phase: watch::channel(Phase::Running).0,
            failure: OnceLock::new(),
            initializer_failures: AtomicU32::new(0),
        }
    }

    /// The tasks for these chunks, which are under way from now on. They run once, unless their worker is lost.
    pub(super) fn launch(&self, flights: impl Iterator<Item = Flight>) -> Vec<Task> {
        let mut under_way = self.flights();
        let launch = |flight: Flight| {
            let mut task = Task::handler(flight.name, flight.body.clone());
            task.owner = Some(self.owner);
            task.completions = Some(self.completions.clone());
            task.keep = false;
            task.retry = Retry {
                attempts: 1,
                ..Retry::default()
            };
            task.details.chunk = Some(self.chunk.clone());
            under_way.insert(task.id, flight);
            task
        };
        flights.map(launch).collect()
    }

    /// Takes a chunk off the list of those under way; tells who waits for the last one.
    pub(super) fn land(&self, id: TaskId) -> Option<Flight> {
        let mut under_way = self.flights();
        let flight = under_way.remove(&id);
        if under_way.is_empty() {
            self.landed.notify_waiters();
        }
        flight
    }

    pub(super) fn under_way(&self) -> Vec<TaskId> {
        self.flights().keys().copied().collect()
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<TaskId, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Gives a completion to the call that waits for it.
    pub(super) fn settle(&self, completion: Completion) -> Settled {
        let Some(flight) = self.land(completion.id) else {
            return Settled::Ended; // it came twice, or its pool has given it up
        };
        let buried = matches!(completion.outcome, Outcome::Failed | Outcome::Dead);
        let answer = match completion.outcome {
            Outcome::Ok => {
                if let Some(message) = initializer_failure(&completion.body) {
                    return self.initializer_failed(flight, message);
                }
                self.initializer_failures.store(0, Ordering::Relaxed);
                Ok(completion.body)
            }
            Outcome::Cancelled if self.is_stopped() => Err(self.why()),
            _ => Err(failure(&completion, flight.first)),
        };
        flight.end(answer);
        if buried {
            Settled::Buried
        } else {
            Settled::Ended
        }
    }

    fn initializer_failed(&self, flight: Flight, message: String) -> Settled {
        let before = self.initializer_failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(target: "pmq", %message, "the initializer of a pool failed");
        if before + 1 >= INITIALIZER_FAILURES {
            self.fail(PoolError::Initializer { message });
        }
        if self.is_stopped() {
            flight.end(Err(self.why()));
            return Settled::Ended;
        }
        Settled::Again(flight)
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
        // Only the broker ends a task of which no worker tells.
        Outcome::Dead if completion.worker.is_empty() => PoolError::WorkerLost { index, message },
        _ => PoolError::Task { index, message },
    }
}
