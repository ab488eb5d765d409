//! wait: how named tasks end.

use std::collections::HashMap;
use std::time::Duration;

use redis::Value;
use tokio::time::{Instant, timeout_at};

use super::shards::gather;
use super::{Caretaker, LOOKUP_CHUNK, Shard, Started, TaskQueue, deadline_after};
use crate::broker::PATIENCE;
use crate::completion::Completion;
use crate::connection::subscription::Subscription;
use crate::error::Result;
use crate::ids::TaskId;
use crate::lending::while_waiting;
use crate::reply;

/// News may be lost, so waiters also look this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is known of a task's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has not ended.
    Living,
    /// It ended like this. Where its completion was posted to a completion queue, only the verdict is here.
    Ended(Box<Completion>),
    /// No such task is known: never submitted, or forgotten after its retention time.
    Unknown,
}

impl TaskQueue {
    /// Looks how tasks ended, and has the end of the others published.
    pub async fn watch(&self, ids: &[TaskId]) -> Result<Vec<Ending>> {
        let endings = self.watch_known(ids).await?;
        if endings.contains(&Ending::Unknown) && self.follow().await? {
            return self.watch_known(ids).await;
        }
        Ok(endings)
    }

    async fn watch_known(&self, ids: &[TaskId]) -> Result<Vec<Ending>> {
        let parts = self.split(ids).await?;
        gather(&parts, parts.iter().map(|part| part.shard.watch(&part.ids))).await
    }

    /// Waits until all of these tasks have ended, or `timeout` passes. In Python this is `AsyncResult.wait`.
    ///
    /// A task that waits for others lends its slot meanwhile.
    pub async fn wait(&self, ids: &[TaskId], timeout: Duration) -> Result<Vec<Ending>> {
        let deadline = deadline_after(timeout);
        let parts = self.split(ids).await?;
        let shards: Vec<Shard> = parts.iter().map(|part| part.shard.clone()).collect();
        let channels: Vec<String> = shards.iter().map(|shard| shard.keys().ended()).collect();
        let news = self.broker().control().subscribe(&channels).await.ok();
        let mut endings = self.watch(ids).await?;
        if endings.contains(&Ending::Living) {
            let ends = self.wait_for_living(ids, &mut endings, (news, Caretaker::new(shards)));
            let ends = while_waiting(ends);
            timeout_at(deadline, ends).await.unwrap_or(Ok(()))?;
        }
        Ok(endings)
    }

    /// Replaces the endings of those that live, until none does.
    async fn wait_for_living(
        &self,
        ids: &[TaskId],
        endings: &mut [Ending],
        (mut news, mut caretaker): (Option<Subscription>, Caretaker),
    ) -> Result<()> {
        let mut living: HashMap<TaskId, usize> = ids
            .iter()
            .copied()
            .zip(0..)
            .filter(|(_, i)| endings[*i] == Ending::Living)
            .collect();
        let mut look = Instant::now() + LOOK_EVERY;
        while !living.is_empty() {
            let heard = hear(&mut news, look).await;
            let mut asked: Vec<TaskId> = heard
                .into_iter()
                .filter(|id| living.contains_key(id))
                .collect();
            if Instant::now() >= look {
                asked = living.keys().copied().collect();
                look = Instant::now() + LOOK_EVERY;
                caretaker.look_after().await;
            }
            for (id, ending) in asked.iter().zip(self.watch(&asked).await?) {
                if ending != Ending::Living
                    && let Some(i) = living.remove(id)
                {
                    endings[i] = ending;
                }
            }
        }
        Ok(())
    }
}

impl Shard {
    async fn watch(&self, ids: &[TaskId]) -> Result<Vec<Ending>> {
        let mut endings = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(LOOKUP_CHUNK) {
            let call = chunk.iter().fold(self.call("watch"), |call, id| {
                call.arg(id.as_bytes().as_slice())
            });
            let answers =
                reply::items(self.broker.control().call(&call, PATIENCE).await?, "watch")?;
            for (id, answer) in chunk.iter().zip(answers) {
                endings.push(self.ending(*id, answer)?);
            }
        }
        Ok(endings)
    }

    fn ending(&self, id: TaskId, answer: Value) -> Result<Ending> {
        if answer == Value::Nil {
            return Ok(Ending::Unknown);
        }
        let record = reply::bytes(answer, "watch")?;
        if record.is_empty() || Started::parse(&record).is_some() {
            return Ok(Ending::Living);
        }
        let completion = self.sealing().open_completion(id, &record)?;
        Ok(Ending::Ended(Box::new(completion)))
    }
}

/// The ids of tasks whose end was published, all that came at once; none where the time is up.
async fn hear(news: &mut Option<Subscription>, until: Instant) -> Vec<TaskId> {
    let Some(subscription) = news else {
        tokio::time::sleep_until(until).await;
        return Vec::new();
    };
    match timeout_at(until, subscription.next()).await {
        Ok(Some(first)) => {
            let mut heard = vec![first];
            heard.extend(subscription.waiting());
            heard
                .iter()
                .filter_map(|id| TaskId::from_slice(id))
                .collect()
        }
        Ok(None) => {
            *news = None;
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}
