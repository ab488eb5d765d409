//! Sending tasks, also into a queue that is full for now, and printing their ids.

use std::time::Duration;

use pmq_broker::task_queue::{CHUNK_BYTES, Submitted};
use pmq_broker::{Error, Task, TaskQueue, envelope};
use serde_json::json;

use crate::failure;
use crate::output::{Output, note};

/// The longest single wait for room, as the news of it may be lost.
const ROOM: Duration = Duration::from_secs(2);

pub(super) struct Sender {
    queue: TaskQueue,
    nowait: bool,
    output: Output,
    silent: bool,
    said_full: bool,
    /// Tasks that are in.
    pub(super) accepted: u64,
}

impl Sender {
    /// With `nowait` a full queue is an error.
    pub(super) fn new(queue: &TaskQueue, nowait: bool, output: Output) -> Self {
        Self {
            queue: queue.clone(),
            nowait,
            output,
            silent: false,
            said_full: false,
            accepted: 0,
        }
    }

    /// Prints no ids.
    pub(super) fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    pub(super) fn queue(&self) -> &TaskQueue {
        &self.queue
    }

    /// Submits tasks in calls that are taken whole or not at all. A queue with room for some of a call gets smaller
    /// ones, unless that would leave a part out.
    pub(super) async fn send(&mut self, tasks: &[Task]) -> anyhow::Result<()> {
        let mut left = tasks;
        let mut most = tasks.len();
        while !left.is_empty() {
            let n = one_call(&left[..most.min(left.len())])?;
            match self.queue.submit_many(&left[..n]).await {
                Ok(answers) => {
                    self.print(&left[..n], &answers)?;
                    self.accepted += n as u64;
                    left = &left[n..];
                    most *= 2;
                }
                Err(Error::Full { .. }) if n > 1 && !self.nowait => most = n / 2,
                Err(error @ Error::Full { .. }) if !self.nowait => {
                    self.wait_for_room(&error).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn wait_for_room(&mut self, error: &Error) -> anyhow::Result<()> {
        if !self.said_full {
            note(&format!("{}; waiting for room", failure::told(error)));
            self.said_full = true;
        }
        Ok(self.queue.wait_for_room(ROOM).await?)
    }

    fn print(&self, tasks: &[Task], answers: &[Submitted]) -> anyhow::Result<()> {
        if self.silent {
            return Ok(());
        }
        let mut lines = String::new();
        for (task, answer) in tasks.iter().zip(answers) {
            if self.output.is_json() {
                let record =
                    json!({"id": task.id, "queue": self.queue.name(), "state": state(*answer)});
                lines.push_str(&record.to_string());
            } else {
                lines.push_str(&task.id.to_string());
            }
            lines.push('\n');
        }
        Ok(self.output.raw(lines.as_bytes())?)
    }
}

fn state(answer: Submitted) -> &'static str {
    match answer {
        Submitted::New => "new",
        Submitted::Exists => "exists",
        Submitted::Ended => "ended",
    }
}

/// How many of the tasks go with one call: at most 1 MiB, but at least one.
fn one_call(tasks: &[Task]) -> pmq_broker::Result<usize> {
    let (mut n, mut bytes) = (0, 0);
    for task in tasks {
        bytes += envelope::encode(task)?.len();
        if n > 0 && bytes > CHUNK_BYTES {
            break;
        }
        n += 1;
    }
    Ok(n)
}
