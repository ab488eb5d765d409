//! cancel: end tasks that wait, stop those that run.

use super::shards::gather;
use super::{LOOKUP_CHUNK, Shard, TaskQueue};
use crate::broker::PATIENCE;
use crate::error::Result;
use crate::ids::TaskId;
use crate::reply::{self, odd};

/// The letter of a task that the call did not come to.
const MORE: u8 = b'm';

/// How a running command is stopped. Handlers are dropped, whatever the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Signal {
    /// SIGTERM, then SIGKILL after a grace.
    #[default]
    Terminate = 15,
    /// SIGKILL.
    Kill = 9,
    /// SIGINT, then SIGKILL after a grace.
    Interrupt = 2,
}

impl Signal {
    /// The signal of this number; what is unknown terminates.
    pub(crate) fn from_number(number: u8) -> Self {
        match number {
            9 => Self::Kill,
            2 => Self::Interrupt,
            _ => Self::Terminate,
        }
    }
}

/// What cancelling a task did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It waited, and has ended as cancelled.
    Cancelled,
    /// It runs; its worker is told to stop it.
    Stopping,
    /// It is a dead letter, which `dead purge` deletes.
    Dead,
    /// It had ended before.
    Ended,
    /// No such task is known.
    Unknown,
}

impl TaskQueue {
    /// Cancels tasks wherever they are; the cost does not grow with the queue.
    pub async fn cancel(&self, ids: &[TaskId], signal: Signal) -> Result<Vec<Cancelled>> {
        let parts = self.split(ids).await?;
        let calls = parts
            .iter()
            .map(|part| part.shard.cancel(&part.ids, signal));
        gather(&parts, calls).await
    }
}

impl Shard {
    async fn cancel(&self, ids: &[TaskId], signal: Signal) -> Result<Vec<Cancelled>> {
        let mut answers = Vec::with_capacity(ids.len());
        let mut rest = ids;
        while !rest.is_empty() {
            let some = self.cancel_some(rest, signal).await?;
            rest = rest.get(some.len()..).unwrap_or_default();
            answers.extend(some);
        }
        Ok(answers)
    }

    /// Cancels the first of these, at least one: a call reads at most 100 tasks and about 1 MiB of them.
    async fn cancel_some(&self, ids: &[TaskId], signal: Signal) -> Result<Vec<Cancelled>> {
        let call = ids
            .iter()
            .take(LOOKUP_CHUNK)
            .fold(self.call("cancel").arg(signal as u8), |call, id| {
                call.arg(id.as_bytes().as_slice())
            });
        let letters = reply::bytes(self.broker.control().call(&call, PATIENCE).await?, "cancel")?;
        let answered = letters.iter().take_while(|letter| **letter != MORE);
        let answers: Vec<Cancelled> = answered
            .map(|letter| cancelled(*letter))
            .collect::<Result<_>>()?;
        if answers.is_empty() {
            return Err(odd("cancel"));
        }
        Ok(answers)
    }
}

fn cancelled(letter: u8) -> Result<Cancelled> {
    match letter {
        b'c' => Ok(Cancelled::Cancelled),
        b'r' => Ok(Cancelled::Stopping),
        b'd' => Ok(Cancelled::Dead),
        b'e' => Ok(Cancelled::Ended),
        b'u' => Ok(Cancelled::Unknown),
        _ => Err(odd("cancel")),
    }
}
