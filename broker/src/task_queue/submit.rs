//! submit: new tasks in, all of a call or none.

use std::time::Duration;

use bytes::Bytes;

use super::{TaskQueue, chunks};
use crate::broker::PATIENCE;
use crate::envelope;
use crate::error::{Error, Result};
use crate::reply::{self, odd};
use crate::task::{Due, Task};

/// What became of a submitted task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It is queued.
    New,
    /// The same task is there already, under the same id.
    Exists,
    /// The same task has ended already, under the same id; it does not run again.
    Ended,
}

impl TaskQueue {
    /// Submits one task. In Python's multiprocessing this is `Pool.apply_async`.
    ///
    /// Submitting the same task under the same id again is no error and runs nothing twice.
    pub async fn submit(&self, task: &Task) -> Result<Submitted> {
        let answers = self.submit_many(std::slice::from_ref(task)).await?;
        answers.first().copied().ok_or_else(|| odd("submit"))
    }

    /// Submits many tasks, in calls of at most 500 tasks and 1 MiB; each call is taken whole or not at all.
    ///
    /// After an error, tasks of earlier calls are in; submitting all of them again is safe.
    pub async fn submit_many(&self, tasks: &[Task]) -> Result<Vec<Submitted>> {
        let envelopes = tasks
            .iter()
            .map(envelope::encode)
            .collect::<Result<Vec<Bytes>>>()?;
        self.broker.register(&self.name).await?;
        let mut answers = Vec::with_capacity(tasks.len());
        for range in chunks(envelopes.iter().map(Bytes::len)) {
            answers.extend(
                self.submit_chunk(&tasks[range.clone()], &envelopes[range])
                    .await?,
            );
        }
        Ok(answers)
    }

    async fn submit_chunk(&self, tasks: &[Task], envelopes: &[Bytes]) -> Result<Vec<Submitted>> {
        let given = tasks.iter().any(|task| task.given_id);
        let mut call = self
            .call("submit")
            .arg(tasks.len())
            .arg(if given { "1" } else { "0" });
        for (task, envelope) in tasks.iter().zip(envelopes) {
            call = call
                .arg(task.id.as_bytes().as_slice())
                .arg(envelope.as_ref());
        }
        if tasks.iter().any(|task| task.due != Due::Now) {
            for task in tasks {
                call = match task.due {
                    Due::Now => call.arg(""),
                    Due::After(delay) => call.arg(format!("+{}", delay.as_millis())),
                    Due::At(ms) => call.arg(ms),
                };
            }
        }
        let bytes: usize = envelopes.iter().map(Bytes::len).sum();
        let link = if bytes > 65_536 {
            self.broker.bulk()
        } else {
            self.broker.control()
        };
        let mut answer = reply::tagged(link.call(&call, PATIENCE).await?, "submit")?;
        match answer.tag.as_str() {
            "ok" => answer.text()?.bytes().map(submitted).collect(),
            "conflict" => {
                let index = answer.number()? as usize;
                Err(index
                    .checked_sub(1)
                    .and_then(|i| tasks.get(i))
                    .map_or_else(|| odd("submit"), |task| Error::Conflict { id: task.id }))
            }
            "full" => Err(Error::Full {
                queue: self.name.clone(),
                what: answer.text()?,
                limit: answer.number()?,
            }),
            _ => Err(odd("submit")),
        }
    }

    /// Waits until a claim makes room in a queue that was [`Error::Full`], or `timeout` passes.
    pub async fn wait_for_room(&self, timeout: Duration) -> Result<()> {
        super::wake::block_on(&self.broker.waiting(timeout), &[self.keys.room()], timeout)
            .await
            .map(drop)
    }
}

fn submitted(letter: u8) -> Result<Submitted> {
    match letter {
        b'n' => Ok(Submitted::New),
        b'e' => Ok(Submitted::Exists),
        b'd' => Ok(Submitted::Ended),
        _ => Err(odd("submit")),
    }
}
