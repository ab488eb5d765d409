//! What goes over a connection in one try.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Value};

use super::on_the_heap;

/// A command, and what goes with it in one pipeline.
#[derive(Clone, Copy)]
pub(super) struct Parcel<'a> {
    pub(super) command: &'a Cmd,
    /// Whether the node shall serve a slot that it is only about to get.
    pub(super) asking: bool,
}

impl<'a> From<&'a Cmd> for Parcel<'a> {
    fn from(command: &'a Cmd) -> Self {
        Self {
            command,
            asking: false,
        }
    }
}

impl Parcel<'_> {
    /// Sends it, and awaits the command's answer.
    pub(super) async fn send(&self, connection: &mut MultiplexedConnection) -> RedisResult<Value> {
        if self.asking {
            return on_the_heap(self.send_asking(connection)).await;
        }
        let answer = connection.send_packed_command(self.command).await;
        answer.and_then(Value::extract_error)
    }

    async fn send_asking(&self, connection: &mut MultiplexedConnection) -> RedisResult<Value> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("ASKING").add_command(self.command.clone());
        let answers = connection.send_packed_commands(&pipeline, 0, 2).await?;
        let answer = answers.into_iter().next_back().unwrap_or(Value::Nil);
        answer.extract_error()
    }
}
