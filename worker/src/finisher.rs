//! The finisher: commits how runs ended, all that ended while the last call was under way in one call.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pmq_broker::task_queue::{Finish, Finished, Refused, Run};
use pmq_broker::{Error, TaskId};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::held::Line;
use crate::worker::Tally;

/// How many ends wait for the finisher before the runs wait themselves.
pub(crate) const BACKLOG: usize = 4096;
const AT_ONCE: usize = 500;

/// An end of a run, as the finisher is told.
pub(crate) enum Post {
    Finish(Finish),
    Release(TaskId, Run),
    Refuse(TaskId, Run, Bytes),
    Drop(TaskId, Run),
}

/// Commits the ends of one queue's runs.
pub(crate) struct Finisher {
    pub(crate) line: Arc<Line>,
    pub(crate) posts: mpsc::Receiver<Post>,
    pub(crate) tally: Arc<Tally>,
}

impl Finisher {
    /// Commits until the last run has ended.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::with_capacity(AT_ONCE);
        while self.posts.recv_many(&mut batch, AT_ONCE).await > 0 {
            let (mut finishes, mut releases, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
            for post in batch.drain(..) {
                match post {
                    Post::Finish(finish) => finishes.push(finish),
                    Post::Release(id, run) => releases.push((id, run)),
                    Post::Refuse(id, run, completion) => refusals.push((id, run, completion)),
                    Post::Drop(id, run) => self.line.let_go(id, &run),
                }
            }
            self.finish(&finishes).await;
            self.release(&releases).await;
            self.refuse(&refusals).await;
        }
    }

    async fn finish(&self, finishes: &[Finish]) {
        if finishes.is_empty() {
            return;
        }
        let queue = &self.line.queue;
        let answers = persist("finish", || queue.finish(finishes))
            .await
            .unwrap_or_default();
        for (finish, answer) in finishes.iter().zip(&answers) {
            if *answer == Finished::Lost {
                tracing::warn!(target: "pmq", task = %finish.id, "another worker has this task; its result here is dropped");
            }
            self.tally.count(*answer, finish.how);
        }
        for finish in finishes {
            self.line.let_go(finish.id, &finish.run);
        }
    }

    async fn release(&self, releases: &[(TaskId, Run)]) {
        if releases.is_empty() {
            return;
        }
        let queue = &self.line.queue;
        persist("release", || queue.release(releases)).await;
        for (id, run) in releases {
            self.line.let_go(*id, run);
        }
    }

    async fn refuse(&self, refusals: &[(TaskId, Run, Bytes)]) {
        let queue = &self.line.queue;
        for (id, run, completion) in refusals {
            let refused = persist("refuse", || queue.refuse(*id, run, completion)).await;
            if refused == Some(Refused::Buried) {
                tracing::warn!(target: "pmq", task = %id, "nobody could run this task for 5 minutes and in 20 tries; it is a dead letter");
            }
            self.line.let_go(*id, run);
        }
    }
}

/// Calls until it works: a result is not lost because the broker is away. Gives up where it never can.
async fn persist<T, F: Future<Output = Result<T, Error>>>(
    doing: &str,
    call: impl Fn() -> F,
) -> Option<T> {
    loop {
        match call().await {
            Ok(answer) => return Some(answer),
            Err(error) if error.is_transient() => {
                tracing::warn!(target: "pmq", %error, "could not {doing} tasks; trying again");
                sleep(Duration::from_millis(fastrand::u64(50..500))).await;
            }
            Err(error) => {
                tracing::error!(target: "pmq", %error, "could not {doing} tasks; they run again when this worker's lease ends");
                return None;
            }
        }
    }
}
