//! What goes over a connection in one try.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};

use super::assurance::{Assurance, confirmed, wait};
use super::on_the_heap;

/// A command, and what goes with it in one pipeline.
#[derive(Clone, Copy)]
pub(super) struct Parcel<'a> {
    pub(super) command: &'a Cmd,
    /// Whether the node shall serve a slot that it is only about to get.
    pub(super) asking: bool,
    /// What makes sure of its effect.
    pub(super) assurance: Option<&'a Assurance>,
}

impl<'a> From<&'a Cmd> for Parcel<'a> {
    fn from(command: &'a Cmd) -> Self {
        Self {
            command,
            asking: false,
            assurance: None,
        }
    }
}

impl Parcel<'_> {
    /// Whether the server must be one that keeps its disk up to date.
    pub(super) fn is_strict(&self) -> bool {
        self.assurance.is_some_and(Assurance::is_strict)
    }

    /// Sends it, and awaits the command's answer. `disks` says whether a server that must say so can say what is on them.
    pub(super) async fn send(
        &self,
        connection: &mut MultiplexedConnection,
        disks: bool,
    ) -> RedisResult<Value> {
        if self.asking || self.assurance.is_some() {
            return on_the_heap(self.send_with_others(connection, disks)).await;
        }
        let answer = connection.send_packed_command(self.command).await;
        answer.and_then(Value::extract_error)
    }

    async fn send_with_others(
        &self,
        connection: &mut MultiplexedConnection,
        disks: bool,
    ) -> RedisResult<Value> {
        let mut pipeline = redis::pipe();
        self.add(&mut pipeline, self.command);
        if let Some(assurance) = self.assurance {
            self.add(&mut pipeline, &assurance.mark);
            pipeline.add_command(wait(disks));
        }
        let count = pipeline.len();
        let answers = connection.send_packed_commands(&pipeline, 0, count).await?;
        let mut answers = answers.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil).extract_error();
        if self.asking {
            next()?;
        }
        let answer = next()?;
        if self.assurance.is_some() {
            if self.asking {
                next()?;
            }
            next()?;
            confirmed(next()?)?;
        }
        Ok(answer)
    }

    /// ASKING holds for one command.
    fn add(&self, pipeline: &mut Pipeline, command: &Cmd) {
        if self.asking {
            pipeline.cmd("ASKING");
        }
        pipeline.add_command(command.clone());
    }
}
