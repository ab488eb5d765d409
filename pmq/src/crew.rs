//! The crew: the worker processes of a local pool, kept running as long as the pool needs them.

use pmq_broker::pool::CrewLink;
use tokio::task::JoinSet;

use crate::post::Post;

/// Which workers to run.
pub(crate) struct Crew {
    pub(crate) processes: usize,
    pub(crate) max_tasks: Option<u32>,
    pub(crate) link: CrewLink,
}

impl Crew {
    /// Keeps the workers running until the pool has ended, and removes what is left of it.
    pub(crate) async fn run(self) {
        let mut workers = JoinSet::new();
        for number in 1..=self.processes {
            let post = Post {
                name: format!("PoolWorker-{number}"),
                queue: self.link.queue().clone(),
                max_tasks: self.max_tasks,
            };
            workers.spawn(keep_running(post, self.link.clone()));
        }
        workers.join_all().await;
        self.link.drained().await;
        self.link.end().await;
    }
}

async fn keep_running(post: Post, link: CrewLink) {
    let enough = async {
        tokio::select! {
            () = link.stopping() => {}
            () = link.drained() => {}
        }
    };
    if let Err(problem) = post.keep_running(enough).await {
        link.fail(problem);
    }
}
