//! wait: how named tasks end.

use std::time::Duration;

use redis::Value;
use tokio::time::{Instant, timeout_at};

use super::{LOOKUP_CHUNK, TaskQueue};
use crate::broker::PATIENCE;
use crate::completion::Completion;
use crate::error::Result;
use crate::ids::TaskId;
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
        let mut endings = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(LOOKUP_CHUNK) {
            let call = chunk.iter().fold(self.call("watch"), |call, id| {
                call.arg(id.as_bytes().as_slice())
            });
            let answers =
                reply::items(self.broker.control().call(&call, PATIENCE).await?, "watch")?;
            for (id, answer) in chunk.iter().zip(answers) {
                endings.push(ending(*id, answer)?);
            }
        }
        Ok(endings)
    }

    /// Waits until all of these tasks have ended, or `timeout` passes. In Python this is `AsyncResult.wait`.
    pub async fn wait(&self, ids: &[TaskId], timeout: Duration) -> Result<Vec<Ending>> {
        let deadline = Instant::now() + timeout;
        let mut news = self
            .broker
            .control()
            .subscribe(&[self.keys.ended()])
            .await
            .ok();
        let mut endings = self.watch(ids).await?;
        while endings.contains(&Ending::Living) && Instant::now() < deadline {
            let look = deadline.min(Instant::now() + LOOK_EVERY);
            match &mut news {
                Some(subscription) => {
                    if let Ok(None) = timeout_at(look, subscription.next()).await {
                        news = None;
                    }
                }
                None => tokio::time::sleep_until(look).await,
            }
            self.look_again(ids, &mut endings).await?;
        }
        Ok(endings)
    }

    async fn look_again(&self, ids: &[TaskId], endings: &mut [Ending]) -> Result<()> {
        let living: Vec<usize> = (0..ids.len())
            .filter(|i| endings[*i] == Ending::Living)
            .collect();
        let asked: Vec<TaskId> = living.iter().map(|i| ids[*i]).collect();
        for (i, ending) in living.into_iter().zip(self.watch(&asked).await?) {
            endings[i] = ending;
        }
        Ok(())
    }
}

fn ending(id: TaskId, answer: Value) -> Result<Ending> {
    if answer == Value::Nil {
        return Ok(Ending::Unknown);
    }
    let record = reply::bytes(answer, "watch")?;
    if record.is_empty() {
        return Ok(Ending::Living);
    }
    Ok(Ending::Ended(Box::new(Completion::decode(id, &record)?)))
}
