//! A run with all that it needs from the broker: opened, run, and left tidy.
use std::time::Duration;

use pmq_broker::Incarnation;
use pmq_broker::task_queue::Owner;
use tokio::time::timeout;

use super::collector::Collector;
use super::events::Events;
use super::feed::Feed;
use super::halt::Halt;
use super::lease::Lease;
use super::place::Place;
use super::recipe::Recipe;
use super::report::Reporter;
use super::run::{Limits, Progress, Run};
use super::signals::StopSignals;
use super::submitter::Submitter;
use crate::exit::Exit;

/// How long leaving may take while the broker does not answer; leases end what is left behind.
const LEAVING: Duration = Duration::from_secs(10);

/// What a run holds of the broker.
pub struct Session {
    place: Place,
    owner: Owner,
}

/// What a run has to do.
pub struct Todo {
    /// The jobs.
    pub feed: Feed,
    /// How a job becomes a task.
    pub recipe: Recipe,
    /// Where their ends are shown.
    pub reporter: Reporter,
    /// When to stop early.
    pub halt: Halt,
}

impl Session {
    /// Joins as the owner of the jobs that go to this place.
    pub async fn open(place: Place) -> pmq_broker::Result<Self> {
        let owner = place.queue.join_as_owner(&place.completions).await?;
        Ok(Self { place, owner })
    }

    /// Where the jobs go.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What the jobs name as their owner.
    #[must_use]
    pub fn owner(&self) -> Incarnation {
        self.owner.incarnation()
    }

    /// Runs the jobs to their end, or until it is stopped, and leaves.
    pub async fn run(mut self, todo: Todo, signals: StopSignals) -> anyhow::Result<Exit> {
        let queue = &self.place.queue;
        let (submitter, news) = Submitter::start(queue.clone());
        // Who may have to stop early starts no job that could not run at once.
        let window = if todo.halt.is_never() {
            self.place.window
        } else {
            self.place.slots
        };
        let at_once = window <= self.place.slots;
        let mut events = Events {
            feed: todo.feed,
            collector: Collector::start(queue.completions(&self.place.completions), at_once),
            news,
            lease: Lease::watch(queue.clone(), self.owner()),
            workers: self.place.workers.take(),
            signals,
        };
        let mut run = Run {
            recipe: todo.recipe,
            submitter,
            reporter: todo.reporter,
            halt: todo.halt,
            limits: Limits {
                window,
                slots: self.place.slots,
                owns_queue: events.workers.is_some(),
            },
            progress: Progress::default(),
        };
        let ended = run.to_end(&mut events).await;
        self.place.workers = events.workers;
        let left = self.leave(run.submitter, events.collector);
        if !matches!(timeout(LEAVING, left).await, Ok(Ok(()))) {
            tracing::info!("left the broker untidy; what is left there expires");
        }
        ended
    }

    async fn leave(self, submitter: Submitter, collector: Collector) -> pmq_broker::Result<()> {
        submitter.finish().await;
        collector.close().await;
        self.owner.close().await?;
        self.place.close().await
    }
}
