//! Watching one process: its start and its end are heard of at once, and looked for where the news is lost.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::connection::subscription::Subscription;
use crate::error::Result;
use crate::ids::TaskId;
use crate::lending::while_waiting;
use crate::task_queue::{Caretaker, Look, TaskQueue};

/// A process under watch.
pub(super) struct Sight {
    queue: TaskQueue,
    id: TaskId,
    news: Option<Subscription>,
}

impl Sight {
    /// Listens for news of the process, which may not be submitted yet. Without any it still looks.
    pub(super) async fn open(queue: &TaskQueue, id: TaskId) -> Self {
        let shard = Box::pin(queue.shard_of(id)).await.unwrap_or(queue.first());
        let channels = [shard.keys().ended()];
        // Boxed, as who joins a process must not become a large future by that.
        let news = Box::pin(queue.broker().control().subscribe(&channels)).await;
        Self {
            queue: queue.clone(),
            id,
            news: news.ok(),
        }
    }

    /// Waits until the process is as `wanted`, or the time is up; looks by itself every `every`. Answers the last look.
    /// A task that waits like this lends its slot, as the process may need it.
    pub(super) async fn wait(
        &mut self,
        wanted: impl Fn(&Look) -> bool,
        deadline: Option<Instant>,
        every: Duration,
    ) -> Result<Look> {
        let mut look = Box::pin(self.queue.look(self.id)).await?;
        let over = || deadline.is_some_and(|deadline| deadline <= Instant::now());
        if wanted(&look) || over() {
            return Ok(look);
        }
        let shard = Box::pin(self.queue.shard_of(self.id)).await?.clone();
        let mut caretaker = Caretaker::new(vec![shard]);
        while_waiting(async {
            while !wanted(&look) && !over() {
                let next = Instant::now() + every;
                self.hear(deadline.map_or(next, |deadline| deadline.min(next)))
                    .await;
                Box::pin(caretaker.look_after()).await;
                look = Box::pin(self.queue.look(self.id)).await?;
            }
            Ok(look)
        })
        .await
    }

    /// Until there is news of the process, or the time is up.
    async fn hear(&mut self, until: Instant) {
        while let Some(news) = &mut self.news {
            match timeout_at(until, news.next()).await {
                Ok(Some(id)) if id == self.id.as_bytes() => return,
                Ok(Some(_)) => {}
                Ok(None) => self.news = None,
                Err(_) => return,
            }
        }
        sleep_until(until).await;
    }
}
