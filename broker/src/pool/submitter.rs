//! The submitter: sends chunks, all that came while the last call was under way in one, and ends the pool.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::PoolError;
use super::core::{Core, Flight, Phase};
use crate::error::Error;
use crate::task::Task;
use crate::task_queue::{CHUNK, Cancelled, Owner, Signal};

/// How long stopped chunks have to end before the pool ends without them.
const STOP_WITHIN: Duration = Duration::from_secs(30);
const ROOM_WITHIN: Duration = Duration::from_secs(1);

pub(super) struct Submitter {
    pub(super) core: Arc<Core>,
    pub(super) outbox: UnboundedReceiver<Vec<Flight>>,
    pub(super) owner: Owner,
    pub(super) collector: JoinHandle<()>,
    /// Whether the pool has workers of its own, which end after it.
    pub(super) has_crew: bool,
}

impl Submitter {
    /// Sends chunks until the pool is closed and all its calls have ended, or it shall stop.
    pub(super) async fn run(mut self) {
        tokio::select! {
            biased;
            () = self.core.reaches(Phase::Terminating) => {}
            () = self.owner.lost() => self.core.fail(PoolError::LeaseLost),
            ended = feed(&self.core, &mut self.outbox) => if let Err(error) = ended {
                self.core.fail(error.into());
            },
        }
        if self.core.is_stopped() {
            self.stop().await;
        }
        self.end().await;
    }

    /// Cancels what waits, and has stopped what runs.
    async fn stop(&mut self) {
        self.outbox.close();
        while let Ok(flights) = self.outbox.try_recv() {
            for flight in flights {
                flight.end(Err(self.core.why()));
            }
        }
        match self.cancel().await {
            Ok(()) => drop(timeout(STOP_WITHIN, self.core.idle()).await),
            // What this client owns is dropped when its lease ends.
            Err(error) => tracing::warn!(target: "pmq", %error, "could not cancel a pool's tasks"),
        }
        for id in self.core.under_way() {
            self.core.give_up(id);
        }
    }

    async fn cancel(&self) -> Result<(), Error> {
        let mut ids = self.core.under_way();
        // The newest first: what runs is stopped when nothing waits any more that could take its place.
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let answers = self.core.queue.cancel(&ids, Signal::Terminate).await?;
        for (id, answer) in ids.into_iter().zip(answers) {
            if answer != Cancelled::Stopping {
                self.core.give_up(id);
            }
        }
        Ok(())
    }

    /// Leaves the queue, with the pool's completion queue.
    async fn end(self) {
        self.core.advance(Phase::Drained);
        // It first gives up what it took, which would else come back under a name that nobody owns.
        let _ = self.collector.await;
        if let Err(error) = self.owner.close().await {
            tracing::debug!(target: "pmq", %error, "a pool's lease is left to end by itself");
        }
        if !self.has_crew {
            self.core.advance(Phase::Ended);
        }
    }
}

/// Sends what comes, until nobody is left to send anything and all of it has ended.
async fn feed(core: &Core, outbox: &mut UnboundedReceiver<Vec<Flight>>) -> Result<(), Error> {
    let mut posted = Vec::new();
    while outbox.recv_many(&mut posted, CHUNK).await > 0 {
        let tasks = core.launch(posted.drain(..).flatten().collect());
        submit(core, &tasks).await?;
    }
    core.idle().await;
    Ok(())
}

/// Submits until it works: a call is not lost because the broker is away, or a queue is full.
async fn submit(core: &Core, tasks: &[Task]) -> Result<(), Error> {
    loop {
        match core.queue.submit_many(tasks).await {
            Ok(_) => return Ok(()),
            Err(Error::Full { .. }) => core.queue.wait_for_room(ROOM_WITHIN).await?,
            Err(error) if error.is_transient() => {
                tracing::debug!(target: "pmq", %error, "could not submit chunks; trying again");
                sleep(Duration::from_millis(fastrand::u64(50..500))).await;
            }
            Err(error) => return Err(error),
        }
    }
}
