//! release and refuse: runs handed back, because the worker stops or because it can't run them.

use bytes::Bytes;

use super::{CHUNK, Run, Shard};
use crate::broker::PATIENCE;
use crate::error::{Error, Result};
use crate::ids::TaskId;
use crate::reply::{self, odd};

/// The letter of a task that was handed back.
const BACK: u8 = b'o';

/// What became of a refused task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is offered again after a growing wait.
    Offered,
    /// Nobody could run it for 5 minutes and in 20 tries: it is a dead letter.
    Buried,
    /// The same of a process, which is no dead letter: it has ended.
    Ended,
    /// Somebody had cancelled it: it has ended.
    Cancelled,
    /// It is not held any more.
    Lost,
}

impl Shard {
    /// Hands runs back unfinished, to the head of their queue. Nothing is used up. What somebody had cancelled ends instead.
    pub async fn release(&self, runs: &[(TaskId, Run)]) -> Result<()> {
        for chunk in runs.chunks(CHUNK) {
            let mut call = self.call("release");
            for (id, run) in chunk {
                call = call.arg(id.as_bytes().as_slice()).arg(run.0.as_ref());
            }
            let answer = self.broker.control().call(&call, PATIENCE).await?;
            let letters = reply::bytes(answer, "release")?;
            let back = letters.iter().copied().filter(|letter| *letter == BACK);
            self.announce(back.count()).await;
        }
        Ok(())
    }

    /// Gives back a run that this worker can't do: another may. `completion` is posted if nobody can for 5 minutes
    /// and in 20 tries.
    pub async fn refuse(&self, id: TaskId, run: &Run, completion: &Bytes) -> Result<Refused> {
        let call = self
            .call("refuse")
            .arg(fastrand::u16(0..1000))
            .arg(id.as_bytes().as_slice())
            .arg(run.0.as_ref())
            .arg(completion.as_ref());
        let letters = reply::bytes(self.broker.control().call(&call, PATIENCE).await?, "refuse")?;
        let refused = refused(letters.first().copied())?;
        self.announce(usize::from(refused == Refused::Offered))
            .await;
        Ok(refused)
    }
}

fn refused(letter: Option<u8>) -> Result<Refused, Error> {
    match letter {
        Some(b'r') => Ok(Refused::Offered),
        Some(b'b') => Ok(Refused::Buried),
        Some(b'e') => Ok(Refused::Ended),
        Some(b'c') => Ok(Refused::Cancelled),
        Some(b'l') => Ok(Refused::Lost),
        _ => Err(odd("refuse")),
    }
}
