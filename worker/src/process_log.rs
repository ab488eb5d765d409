//! The log of a process that runs here: brings what it prints to the broker as it comes.
//!
//! A log never costs a process its life or much of its time. While the broker takes what is printed, a process that
//! prints faster than that waits, as at a full pipe; once the broker is silent for a second, the oldest output is
//! dropped instead, and readers are told how much.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use pmq_broker::process::{Appended, Batch, Stream};
use pmq_broker::task_queue::{Run, Shard};
use pmq_broker::{Error, TaskId};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backlog::Backlog;
use crate::child::until;

/// Chunks, of up to 64 KiB, between the process and its log.
const CHANNEL: usize = 8;
/// Where little is printed, one call takes what comes within this time.
const PACE: Duration = Duration::from_millis(50);
/// Where so much waits, the next call does not.
const SOON: usize = 64 * 1024;
/// How long a process waits for a silent broker before its oldest output is dropped.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the end of a process waits until its whole log is with the broker.
const FLUSH: Duration = Duration::from_secs(2);
/// Between two looks whether a reader has gone on.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// Between two tries of what the broker refuses.
const AGAIN: Duration = Duration::from_millis(500);

/// Output on its way from a process.
pub(crate) type Chunk = (Stream, Bytes);

/// The log of one run.
pub(crate) struct ProcessLog {
    chunks: mpsc::Sender<Chunk>,
    close: oneshot::Sender<Close>,
    writer: JoinHandle<u64>,
}

impl ProcessLog {
    /// Begins to write, in the runtime of the worker's roles: a handler that blocks its thread holds nothing up.
    pub(crate) fn start(roles: &Handle, shard: Shard, id: TaskId, run: Run) -> Self {
        let (chunks, received) = mpsc::channel(CHANNEL);
        let (close, closing) = oneshot::channel();
        let writer = Writer::new(Target { shard, id, run }, received, closing);
        Self {
            chunks,
            close,
            writer: roles.spawn(writer.run()),
        }
    }

    /// Where output goes.
    pub(crate) fn chunks(&self) -> mpsc::Sender<Chunk> {
        self.chunks.clone()
    }

    /// Waits until the broker has everything: for at most 2 s where it is silent, and for a reader for whom the process
    /// waits, unless it is told to stop. Answers how many bytes the log has, with those that were lost.
    pub(crate) async fn close(self, close: Close) -> u64 {
        // A writer that has gone has told why.
        let _ = self.close.send(close);
        self.writer.await.unwrap_or_default()
    }
}

/// How a log is closed.
#[derive(Default)]
pub(crate) struct Close {
    /// No other run can follow.
    pub(crate) last: bool,
    /// Cancelled where the run is told to stop, also after its end: then it waits for no reader.
    pub(crate) stop: CancellationToken,
}

/// The run whose log it is.
#[derive(Clone)]
struct Target {
    shard: Shard,
    id: TaskId,
    run: Run,
}

/// All was printed.
struct Closing {
    /// Whether no other run can follow.
    last: bool,
    /// Until when there is time to write it.
    deadline: Instant,
    /// Once cancelled, this holds for a reader that is behind as well.
    stop: CancellationToken,
}

struct Writer {
    target: Target,
    backlog: Backlog,
    chunks: mpsc::Receiver<Chunk>,
    close: oneshot::Receiver<Close>,
    closing: Option<Closing>,
    /// Whether it is known where the log of earlier runs ends.
    opened: bool,
    /// Whether the call under way, or the last one, says that nothing follows.
    ending: bool,
    /// Since when the broker has taken nothing.
    stalled: Option<Instant>,
    /// No call before this, where little is printed.
    paced: Instant,
    /// No call at all before this.
    barred: Instant,
    /// How long the last wait for the reader was.
    pause: Duration,
    /// When the log must be kept longer.
    refresh: Option<Instant>,
}

impl Writer {
    fn new(target: Target, chunks: mpsc::Receiver<Chunk>, close: oneshot::Receiver<Close>) -> Self {
        let now = Instant::now();
        Self {
            target,
            backlog: Backlog::default(),
            chunks,
            close,
            closing: None,
            opened: false,
            ending: false,
            stalled: None,
            paced: now,
            barred: now,
            pause: Duration::ZERO,
            refresh: None,
        }
    }

    /// Writes until the log is closed, or is no log of this run any more. Answers where it ends.
    async fn run(mut self) -> u64 {
        loop {
            while let due = self.due()
                && due.is_none_or(|due| due > Instant::now())
            {
                self.take_in(due).await;
            }
            if self.is_complete() {
                break;
            }
            match self.call().await {
                Ok(Appended::Kept { end, expires }) => self.confirm(end, expires),
                Ok(Appended::Full) if self.is_out_of_time() => break,
                Ok(Appended::Full) => self.wait_for_reader(),
                Ok(Appended::Lost) => return self.backlog.end(),
                Err(error) if self.gives_up(&error) => break,
                Err(_) => self.barred = Instant::now() + AGAIN,
            }
        }
        let lost = self.backlog.dropped + self.backlog.bytes() as u64;
        if lost > 0 {
            tracing::warn!(target: "pmq", task = %self.target.id, "{lost} bytes of its output did not reach its log");
        }
        self.backlog.end()
    }

    /// When the next call is due; `None` where there is nothing to say.
    fn due(&self) -> Option<Instant> {
        if !self.opened || self.closing.is_some() || self.backlog.bytes() >= SOON {
            return Some(self.barred);
        }
        if self.backlog.bytes() > 0 {
            return Some(self.paced.max(self.barred));
        }
        self.refresh.map(|refresh| refresh.max(self.barred))
    }

    /// Waits for one thing: output, the end, or this time. It can be dropped while it waits.
    async fn take_in(&mut self, time: Option<Instant>) {
        let open = self.closing.is_none();
        let patience = self.stalled.map(|since| since + PATIENCE);
        let late = patience.is_some_and(|end| end <= Instant::now());
        let waits = self.backlog.is_full() && !late;
        tokio::select! {
            biased;
            close = &mut self.close, if open => self.begin_to_close(close.unwrap_or_default()),
            Some((stream, bytes)) = self.chunks.recv(), if open && !waits => {
                self.backlog.push(stream, &bytes);
                if late {
                    self.backlog.shrink();
                }
            }
            () = until(patience), if waits => {}
            () = until(time) => {}
        }
    }

    /// All that was printed is in the channel.
    fn begin_to_close(&mut self, close: Close) {
        while let Ok((stream, bytes)) = self.chunks.try_recv() {
            self.backlog.push(stream, &bytes);
        }
        let deadline = Instant::now() + FLUSH;
        self.closing = Some(Closing {
            last: close.last,
            stop: close.stop,
            deadline,
        });
    }

    /// Makes the next call, and takes in what is printed meanwhile.
    async fn call(&mut self) -> Result<Appended, Error> {
        let now = Instant::now();
        self.stalled.get_or_insert(now);
        self.paced = now + PACE;
        let mut batch = self.backlog.batch();
        if !self.opened {
            batch = Batch::default();
        }
        self.ending = self.opened && self.ends_with(&batch);
        if self.ending {
            batch.pieces.push((None, Bytes::new()));
        }
        let Target { shard, id, run } = self.target.clone();
        let mut call = pin!(shard.append_log(id, &run, &batch));
        loop {
            tokio::select! {
                biased;
                answer = &mut call => return answer,
                () = self.take_in(None) => {}
            }
        }
    }

    /// Whether this is all that there will ever be.
    fn ends_with(&self, batch: &Batch) -> bool {
        let bytes: usize = batch.pieces.iter().map(|(_, bytes)| bytes.len()).sum();
        self.closing.as_ref().is_some_and(|closing| closing.last) && bytes == self.backlog.bytes()
    }

    fn confirm(&mut self, end: u64, expires: Duration) {
        self.stalled = None;
        self.pause = Duration::ZERO;
        if self.opened {
            self.backlog.confirm(end);
        } else {
            self.opened = true;
            self.backlog.begin_at(end);
        }
        // The log, and who reads it, are kept as long as the process runs, however little that prints.
        self.refresh = Some(Instant::now() + expires / 10);
    }

    /// The process waits for whoever reads its log, once the backlog is full as well.
    fn wait_for_reader(&mut self) {
        self.stalled = None;
        self.pause = (self.pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        self.barred = Instant::now() + self.pause;
    }

    /// Whether the end of the process must not wait for its reader any longer.
    fn is_out_of_time(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| {
            closing.stop.is_cancelled() && Instant::now() >= closing.deadline
        })
    }

    /// Whether the broker has everything that there is to say.
    fn is_complete(&self) -> bool {
        let said = |closing: &Closing| self.ending || !closing.last;
        self.opened && self.backlog.bytes() == 0 && self.closing.as_ref().is_some_and(said)
    }

    /// Whether the end of the process must not wait for the broker any longer.
    fn gives_up(&self, error: &Error) -> bool {
        self.closing.as_ref().is_some_and(|closing| {
            !matches!(error, Error::Unreachable { .. }) || Instant::now() >= closing.deadline
        })
    }
}
