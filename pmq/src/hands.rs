//! The hands of a program: worker processes of its own for the processes that it starts on this machine.

use pmq_broker::pool::own_queue;
use pmq_broker::{Broker, Error, Name, TaskQueue};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::post::Post;

/// Workers with one slot each, on a queue that nobody else serves.
pub(crate) struct Hands {
    queue: TaskQueue,
    enough: CancellationToken,
    posts: JoinSet<()>,
}

impl Hands {
    pub(crate) async fn open(broker: &Broker) -> Result<Self, Error> {
        Ok(Self {
            queue: own_queue(broker).await?,
            enough: CancellationToken::new(),
            posts: JoinSet::new(),
        })
    }

    pub(crate) fn queue(&self) -> &Name {
        self.queue.name()
    }

    /// Sees to it that there are `n` workers, or more.
    pub(crate) fn at_least(&mut self, n: usize) {
        while self.posts.len() < n {
            let post = Post {
                name: format!("Worker-{}", self.posts.len() + 1),
                queue: self.queue.clone(),
                max_tasks: None,
            };
            let enough = self.enough.clone().cancelled_owned();
            self.posts.spawn(async move {
                if let Err(problem) = post.keep_running(enough).await {
                    tracing::error!(target: "pmq", "the workers of this program do not run: {problem}");
                }
            });
        }
    }

    /// Ends the workers, and what still runs on them.
    pub(crate) async fn end(self) {
        self.enough.cancel();
        self.posts.join_all().await;
        if let Err(error) = self.queue.delete().await {
            tracing::warn!(target: "pmq", %error, "left the queue of a program behind");
        }
    }
}
