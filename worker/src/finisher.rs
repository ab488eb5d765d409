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
/// Between two tries of what the broker refuses.
const PUT_OFF: Duration = Duration::from_secs(30);

/// An end of a run, as the finisher is told.
pub(crate) enum Post {
    Finish(Finish),
    Release(TaskId, Run),
    Refuse(TaskId, Run, Bytes),
    Drop(TaskId, Run),
}

/// Commits the ends of one shard's runs.
pub(crate) struct Finisher {
    pub(crate) line: Arc<Line>,
    pub(crate) posts: mpsc::Receiver<Post>,
    /// For ends that the broker refuses to take now.
    pub(crate) again: mpsc::WeakSender<Post>,
    pub(crate) tally: Arc<Tally>,
}

impl Finisher {
    /// Commits until the last run has ended.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::with_capacity(AT_ONCE);
        while self.posts.recv_many(&mut batch, AT_ONCE).await > 0 {
            let (mut finishes, mut releases) = (Vec::new(), Vec::new());
            for post in batch.drain(..) {
                match post {
                    Post::Finish(finish) => finishes.push(finish),
                    Post::Release(id, run) => releases.push((id, run)),
                    Post::Refuse(id, run, completion) => self.refuse(id, run, completion).await,
                    Post::Drop(id, run) => self.line.let_go([(id, &run)]),
                }
            }
            if !finishes.is_empty() {
                self.finish(finishes).await;
            }
            if !releases.is_empty() {
                self.release(releases).await;
            }
        }
    }

    /// What the broker refuses does not hold up the others: then each goes alone.
    async fn finish(&self, mut finishes: Vec<Finish>) {
        let shard = &self.line.shard;
        match persist("finish", || shard.finish(&finishes)).await {
            Some(answers) => {
                for (finish, answer) in finishes.iter().zip(answers) {
                    self.settle(finish, answer);
                }
                self.line.let_go(finishes.iter().map(|f| (f.id, &f.run)));
            }
            None if finishes.len() > 1 => {
                for finish in finishes {
                    Box::pin(self.finish(vec![finish])).await;
                }
            }
            None => self.put_off(finishes.pop().map(Post::Finish)),
        }
    }

    fn settle(&self, finish: &Finish, answer: Finished) {
        if answer == Finished::Lost {
            tracing::warn!(target: "pmq", task = %finish.id, "another worker has this task; its result here is dropped");
        }
        self.tally.count(answer, finish.how);
    }

    async fn release(&self, releases: Vec<(TaskId, Run)>) {
        let shard = &self.line.shard;
        let released = persist("release", || shard.release(&releases)).await;
        for (id, run) in releases {
            match released {
                Some(()) => self.line.let_go([(id, &run)]),
                None => self.put_off(Some(Post::Release(id, run))),
            }
        }
    }

    async fn refuse(&self, id: TaskId, run: Run, completion: Bytes) {
        let shard = &self.line.shard;
        let Some(refused) = persist("refuse", || shard.refuse(id, &run, &completion)).await else {
            return self.put_off(Some(Post::Refuse(id, run, completion)));
        };
        if refused == Refused::Buried {
            tracing::warn!(target: "pmq", task = %id, "nobody could run this task for 5 minutes and in 20 tries; it is a dead letter");
        }
        self.line.let_go([(id, &run)]);
    }

    /// Tries an end again later. Until then the run stays held, so that its lease goes on, or ends and is reclaimed.
    fn put_off(&self, post: Option<Post>) {
        let again = self.again.clone();
        tokio::spawn(async move {
            sleep(PUT_OFF).await;
            if let (Some(again), Some(post)) = (again.upgrade(), post) {
                // Where nobody listens any more, the lease ends soon.
                let _ = again.send(post).await;
            }
        });
    }
}

/// Calls until it works: a result is not lost because the broker is away. `None` where the broker refuses it.
async fn persist<T, F: Future<Output = Result<T, Error>>>(
    doing: &str,
    call: impl Fn() -> F,
) -> Option<T> {
    loop {
        match call().await {
            Ok(answer) => return Some(answer),
            Err(error) if error.is_transient() => {
                tracing::debug!(target: "pmq", %error, "could not {doing} tasks; trying again");
                sleep(Duration::from_millis(fastrand::u64(50..500))).await;
            }
            Err(error) => {
                tracing::error!(target: "pmq", %error, "the broker refuses to {doing} tasks; trying again in {PUT_OFF:?}");
                return None;
            }
        }
    }
}
