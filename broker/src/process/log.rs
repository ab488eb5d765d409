//! The log of a process: what it printed, live or afterwards, from any offset.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio::time::Instant;

use crate::broker::PATIENCE;
use crate::connection::lane::Lane;
use crate::error::Result;
use crate::ids::{Incarnation, TaskId};
use crate::reply::{self, odd};
use crate::task_queue::{Caretaker, Ending, Shard, TaskQueue};

/// A process that is lost leaves no end in its log, so whoever follows one looks this often whether it lives.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pieces that one call reads; each has at most 64 KiB.
const AT_ONCE: usize = 32;

/// One of the two output streams of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word for it, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// How it is written in a log.
    pub(super) fn letter(self) -> &'static str {
        match self {
            Self::Stdout => "o",
            Self::Stderr => "e",
        }
    }
}

/// A part of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Something that the process printed: any bytes, at most 64 KiB, not cut at lines.
    Output {
        /// Where it begins: how many bytes the process had printed before, on both streams together.
        offset: u64,
        /// Where the process printed it.
        stream: Stream,
        /// What it printed.
        bytes: Bytes,
    },
    /// Output that is not in the log: it was too old, or never came.
    Lost {
        /// How much, on both streams together.
        bytes: u64,
    },
}

/// Reads the log of a process. Any number of readers may read one log; reading takes nothing away.
///
/// Each stream is in order; of what was printed on both at nearly the same time, either may come first.
pub struct Log {
    queue: TaskQueue,
    id: TaskId,
    link: Lane,
    follow: bool,
    /// Who reads, where the process waits for it, and how far the broker knows it to be.
    reader: Option<(Incarnation, u64)>,
    /// How much of the log was read.
    at: u64,
    pieces: VecDeque<Piece>,
    /// When the process was last seen alive.
    alive: Option<Instant>,
    /// Once it had to wait.
    caretaker: Option<Caretaker>,
    /// The last that was read says that nothing follows.
    ended: bool,
    over: bool,
}

impl TaskQueue {
    /// The log of a process of this queue, from its beginning on. It is kept for the queue's retention after the end;
    /// a task that is no process has an empty one.
    #[must_use]
    pub fn log(&self, id: TaskId) -> Log {
        Log {
            queue: self.clone(),
            id,
            link: self.broker().waiting(LOOK_EVERY),
            follow: false,
            reader: None,
            at: 0,
            pieces: VecDeque::new(),
            alive: None,
            caretaker: None,
            ended: false,
            over: false,
        }
    }
}

impl Shard {
    /// The tasks that have a log.
    pub(crate) async fn tasks_with_log(&self) -> Result<Vec<TaskId>> {
        let doing = "list the logs";
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.keys().logs()).arg(0).arg(-1);
        let link = self.broker.control();
        let ids = reply::items(link.send(&command, doing, PATIENCE).await?, doing)?;
        ids.into_iter()
            .map(|id| TaskId::from_slice(&reply::bytes(id, doing)?).ok_or_else(|| odd(doing)))
            .collect()
    }
}

impl Log {
    /// Begins at this offset: so many bytes, of both streams together, are passed over. 0 unless set.
    #[must_use]
    pub fn from(mut self, offset: u64) -> Self {
        self.at = offset;
        self
    }

    /// Whether it waits for more until the process has ended; false unless set.
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Self {
        self.follow = follow;
        self
    }

    /// The offset up to which the log was read, in bytes: where another reader can go on.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// The next piece; `None` where the log ends, or, if it follows, where the process has ended and all was read.
    ///
    /// It can be dropped while it waits, and loses nothing. A broker that is away is awaited for 10 s.
    pub async fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Ok(Some(piece));
            }
            if self.over {
                return Ok(None);
            }
            self.advance().await?;
        }
    }

    /// Lets the process wait for this reader, a client with a lease on its queue.
    pub(super) fn read_by(mut self, reader: Incarnation) -> Self {
        self.reader = Some((reader, 0));
        self
    }

    /// All that was read is with the caller: the process may go on.
    async fn tell(&mut self) -> Result<()> {
        if let Some((reader, told)) = self.reader
            && told < self.at
        {
            let shard = self.queue.shard_of(self.id).await?;
            shard.log_read(self.id, reader, self.at).await?;
            self.reader = Some((reader, self.at));
        }
        Ok(())
    }

    async fn advance(&mut self) -> Result<()> {
        self.tell().await?;
        if self.ended {
            // Requeued, it may have run again since.
            self.over = !self.read(None).await?;
            return Ok(());
        }
        let look = self.alive.map(|seen| seen + LOOK_EVERY);
        let left = look.map_or(Duration::ZERO, |look| {
            look.saturating_duration_since(Instant::now())
        });
        if !left.is_zero() {
            self.read(Some(left)).await?;
            return Ok(());
        }
        if self.read(None).await? {
            return Ok(());
        }
        match self.queue.watch(&[self.id]).await?.pop() {
            Some(Ending::Living) if self.follow => {
                self.look_after().await?;
                self.alive = Some(Instant::now());
            }
            Some(Ending::Living) => self.over = true,
            ending => {
                // What it printed last may have come between the two looks.
                if !self.read(None).await? {
                    self.end(ending);
                }
            }
        }
        Ok(())
    }

    /// Takes back what dead workers hold: one may have run the process.
    async fn look_after(&mut self) -> Result<()> {
        if self.caretaker.is_none() {
            let shard = self.queue.shard_of(self.id).await?.clone();
            self.caretaker = Some(Caretaker::new(vec![shard]));
        }
        if let Some(caretaker) = &mut self.caretaker {
            caretaker.look_after().await;
        }
        Ok(())
    }

    /// The process has ended, and its log does not say so: what it printed last may be missing.
    fn end(&mut self, ending: Option<Ending>) {
        self.over = true;
        if let Some(Ending::Ended(completion)) = ending
            && let Some(end) = completion.report.log
        {
            self.reach(end, 0);
        }
    }

    /// Reads what comes next, and waits up to `block` where nothing is there; answers whether there was something.
    async fn read(&mut self, block: Option<Duration>) -> Result<bool> {
        let doing = "read a log";
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(AT_ONCE);
        if let Some(block) = block {
            command.arg("BLOCK").arg(block.as_millis().max(1) as u64);
        }
        command
            .arg("STREAMS")
            .arg(self.queue.shard_of(self.id).await?.keys().log(self.id))
            .arg(format!("{}-{}", self.at, u8::from(self.ended)));
        let answer = self.link.send(&command, doing, PATIENCE).await?;
        let entries = entries(answer)?;
        let some = !entries.is_empty();
        for entry in entries {
            self.take(&entry);
        }
        Ok(some)
    }

    fn take(&mut self, entry: &Entry) {
        let Some(stream) = entry.stream else {
            self.reach(entry.end, 0);
            self.ended = true;
            return;
        };
        let size = entry.bytes.len() as u64;
        let start = self.reach(entry.end, size);
        let cut = (size - (entry.end - start)) as usize;
        self.ended = false;
        self.pieces.push_back(Piece::Output {
            offset: start,
            stream,
            bytes: entry.bytes.slice(cut..),
        });
    }

    /// Goes on to `end`, with the last `size` bytes at hand at most; tells of a gap, and answers where those bytes begin.
    fn reach(&mut self, end: u64, size: u64) -> u64 {
        let start = end.saturating_sub(size).max(self.at);
        if start > self.at {
            self.pieces.push_back(Piece::Lost {
                bytes: start - self.at,
            });
        }
        self.at = self.at.max(end);
        start.min(end)
    }
}

/// An entry of the stream; its end is its number.
struct Entry {
    end: u64,
    /// `None` where nothing follows.
    stream: Option<Stream>,
    bytes: Bytes,
}

/// The entries in an answer to XREAD, which names one stream or none.
fn entries(answer: Value) -> Result<Vec<Entry>> {
    let doing = "read a log";
    let mut streams = reply::items(answer, doing)?;
    if let [Value::Array(_)] = streams.as_slice() {
        streams = reply::items(streams.remove(0), doing)?; // so it comes in RESP2, and flat in RESP3
    }
    let Some(list) = streams.into_iter().nth(1) else {
        return Ok(Vec::new());
    };
    reply::items(list, doing)?.into_iter().map(entry).collect()
}

fn entry(value: Value) -> Result<Entry> {
    let doing = "read a log";
    let mut parts = reply::items(value, doing)?.into_iter();
    let mut part = || parts.next().ok_or_else(|| odd(doing));
    let number = reply::text(part()?, doing)?;
    let mut fields = reply::items(part()?, doing)?.into_iter();
    let mut field = || reply::bytes(fields.next().ok_or_else(|| odd(doing))?, doing);
    let (end, _) = number.split_once('-').ok_or_else(|| odd(doing))?;
    Ok(Entry {
        end: end.parse().map_err(|_| odd(doing))?,
        stream: match &field()?[..] {
            b"o" => Some(Stream::Stdout),
            b"e" => Some(Stream::Stderr),
            _ => None,
        },
        bytes: field()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn list() -> Value {
        let entry = |number, kind, bytes| {
            let fields = Value::Array(vec![text(kind), text(bytes)]);
            Value::Array(vec![text(number), fields])
        };
        Value::Array(vec![entry("3-0", "o", "out"), entry("3-1", "x", "")])
    }

    #[test]
    fn an_answer_is_understood_in_both_protocols_and_empty() {
        let old = Value::Array(vec![Value::Array(vec![text("log"), list()])]);
        let new = Value::Map(vec![(text("log"), list())]);
        for answer in [old, new] {
            let entries = entries(answer).unwrap();
            let shown: Vec<_> = entries.iter().map(|e| (e.end, e.stream)).collect();
            assert_eq!(shown, [(3, Some(Stream::Stdout)), (3, None)]);
            assert_eq!(entries[0].bytes, "out");
        }
        assert!(entries(Value::Nil).unwrap().is_empty());
    }

    #[test]
    fn an_entry_that_no_log_has_is_an_error() {
        let odd = Value::Array(vec![text("log"), Value::Array(vec![text("3-0")])]);
        assert!(entries(odd).is_err());
    }
}
