//! `log_append`: what a process prints, on its way into its log.

use std::time::Duration;

use bytes::Bytes;

use super::Stream;
use crate::error::Result;
use crate::ids::{Incarnation, TaskId};
use crate::reply;
use crate::task_queue::{Run, Shard};

/// How long one call may take: what is printed meanwhile has to wait in memory.
const PATIENCE: Duration = Duration::from_secs(1);

/// Pieces of output without a gap between them, in order: at most 500 and 1 MiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Where the first begins: how many bytes were printed before, on both streams together.
    pub offset: u64,
    /// What was printed on which stream; `None` says that nothing follows.
    pub pieces: Vec<(Option<Stream>, Bytes)>,
}

/// What became of output that was sent to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is there.
    Kept {
        /// Where the log ends now, in bytes.
        end: u64,
        /// For how long the log is kept unless this is called again.
        expires: Duration,
    },
    /// The reader for whom the process waits is too far behind: nothing was added, try again soon.
    Full,
    /// This run does not hold the task any more, so its output belongs to no log.
    Lost,
}

impl Shard {
    /// Adds what a run printed to the log of its process. Tries for 1 s.
    ///
    /// What the log has already is not added again, so a batch may be sent again. An empty one only asks where the log
    /// ends, and keeps it longer.
    pub async fn append_log(&self, id: TaskId, run: &Run, batch: &Batch) -> Result<Appended> {
        let call = self
            .call("log_append")
            .arg(id.as_bytes().as_slice())
            .arg(run.0.as_ref())
            .arg(batch.offset);
        let call = batch.pieces.iter().fold(call, |call, (stream, bytes)| {
            call.arg(stream.map_or("x", Stream::letter))
                .arg(bytes.as_ref())
        });
        let answer = self.broker.bulk().call(&call, PATIENCE).await?;
        let mut answer = reply::tagged(answer, "write a log")?;
        match answer.tag.as_str() {
            "ok" => {}
            "full" => return Ok(Appended::Full),
            _ => return Ok(Appended::Lost),
        }
        Ok(Appended::Kept {
            end: answer.number()?,
            expires: Duration::from_millis(answer.number()?),
        })
    }

    /// Says how far `reader` has read the log of a process, which waits for it as long as its lease goes on.
    pub(crate) async fn log_read(&self, id: TaskId, reader: Incarnation, at: u64) -> Result<()> {
        let call = self
            .call("log_read")
            .arg(id.as_bytes().as_slice())
            .arg(reader.as_bytes().as_slice())
            .arg(at);
        let control = self.broker.control();
        control.call(&call, crate::PATIENCE).await.map(drop)
    }
}
