//! The producer: submits tasks, and cancels them, in the order in which it was asked.
//!
//! A broker that is away is waited for: a run of hours shall survive its restart.
use std::time::Duration;

use pmq_broker::task_queue::{Cancelled, Signal};
use pmq_broker::{Error, Result, Task, TaskId, TaskQueue};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long it waits before it tries again.
const PAUSE: Duration = Duration::from_secs(1);
/// The most dead letters that one call deletes.
const DEAD_AT_ONCE: usize = 100;

/// What it is asked to do.
enum Request {
    Submit(Vec<Task>),
    Cancel(Vec<TaskId>, Signal),
    CancelWaiting,
    Forget(Vec<TaskId>),
}

/// What it has to tell.
#[derive(Debug)]
pub enum News {
    /// These tasks are not queued, so no completion comes.
    NotQueued(Vec<TaskId>),
    /// Something is wrong, and it goes on trying.
    Trouble(Error),
    /// It can't go on.
    Failed(Error),
}

/// Submits and cancels tasks in the background.
#[derive(Debug)]
pub struct Submitter {
    requests: mpsc::UnboundedSender<Request>,
    stop: CancellationToken,
    done: tokio::task::JoinHandle<()>,
}

impl Submitter {
    /// Starts it, and hands out where its news come.
    #[must_use]
    pub fn start(queue: TaskQueue) -> (Self, mpsc::UnboundedReceiver<News>) {
        // The window of the run bounds both channels.
        let (requests, mut inbox) = mpsc::unbounded_channel();
        let (news, outbox) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let worker = Worker {
            queue,
            news,
            stop: stop.clone(),
        };
        let done = tokio::spawn(async move {
            while let Some(request) = inbox.recv().await {
                if let Err(error) = worker.carry_out(request).await {
                    let _ = worker.news.send(News::Failed(error));
                    return;
                }
            }
        });
        let submitter = Self {
            requests,
            stop,
            done,
        };
        (submitter, outbox)
    }

    /// Submits tasks.
    pub fn submit(&self, tasks: Vec<Task>) {
        self.ask(Request::Submit(tasks));
    }

    /// Submits nothing more, and cancels these tasks wherever they are.
    pub fn cancel(&self, ids: Vec<TaskId>, signal: Signal) {
        self.stop.cancel();
        self.ask(Request::Cancel(ids, signal));
    }

    /// Cancels all that waits in the queue; what runs goes on.
    pub fn cancel_waiting(&self) {
        self.ask(Request::CancelWaiting);
    }

    /// Deletes the dead letters of tasks whose end was reported.
    pub fn forget(&self, ids: Vec<TaskId>) {
        self.ask(Request::Forget(ids));
    }

    /// Ends it when all is done that it was asked for.
    pub async fn finish(self) {
        drop(self.requests);
        let _ = self.done.await;
    }

    fn ask(&self, request: Request) {
        // It has told why it ended, if it did.
        let _ = self.requests.send(request);
    }
}

struct Worker {
    queue: TaskQueue,
    news: mpsc::UnboundedSender<News>,
    stop: CancellationToken,
}

impl Worker {
    /// Tries again while the broker is away or full: every request may be carried out twice.
    async fn carry_out(&self, request: Request) -> Result<()> {
        let mut told = false;
        loop {
            let Err(error) = self.attempt(&request).await else {
                return Ok(());
            };
            if !error.is_transient() {
                return Err(error);
            }
            let full = matches!(error, Error::Full { .. });
            if !told {
                let _ = self.news.send(News::Trouble(error));
                told = true;
            }
            if !full || self.queue.wait_for_room(PAUSE).await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn attempt(&self, request: &Request) -> Result<()> {
        match request {
            // The cancel that follows tells what was queued.
            Request::Submit(_) if self.stop.is_cancelled() => Ok(()),
            Request::Submit(tasks) => self.queue.submit_many(tasks).await.map(drop),
            Request::Cancel(ids, signal) => self.cancel(ids, *signal).await,
            Request::CancelWaiting => {
                while self.queue.purge_some().await?.1 {}
                Ok(())
            }
            Request::Forget(ids) => {
                for ids in ids.chunks(DEAD_AT_ONCE) {
                    self.queue.purge_dead(Some(ids)).await?;
                }
                Ok(())
            }
        }
    }

    async fn cancel(&self, ids: &[TaskId], signal: Signal) -> Result<()> {
        let answers = self.queue.cancel(ids, signal).await?;
        let unknown = ids.iter().zip(answers);
        let unknown = unknown.filter(|(_, answer)| *answer == Cancelled::Unknown);
        let ids = unknown.map(|(id, _)| *id).collect();
        let _ = self.news.send(News::NotQueued(ids));
        Ok(())
    }
}
