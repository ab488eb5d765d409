//! Writing to the streams of this process in a thread of its own: a write to a pipe that nobody reads can't be
//! interrupted, and this process has signals to heed meanwhile.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use pmq_broker::process::Stream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::output::Output;

/// In a hurry, what is not taken within this time is let go.
const PATIENCE: Duration = Duration::from_secs(1);

type Piece = (Stream, Bytes);

/// Writes pieces of output in their order. Where it is dropped, a write under way is left to itself.
pub(super) struct Printer {
    pieces: mpsc::Sender<Piece>,
    /// How the writing ended.
    written: oneshot::Receiver<io::Result<()>>,
    hurry: CancellationToken,
}

impl Printer {
    /// Starts the thread. Once `hurry` is cancelled, nothing waits for long.
    pub(super) fn start(output: Output, hurry: CancellationToken) -> io::Result<Self> {
        // One waits while another is written: whoever brings more waits as at a full pipe.
        let (pieces, received) = mpsc::channel(1);
        let (done, written) = oneshot::channel();
        thread::Builder::new()
            .name("printer".to_owned())
            .spawn(move || done.send(write_all(received, output)))?;
        Ok(Self {
            pieces,
            written,
            hurry,
        })
    }

    /// Hands a piece over, as soon as there is room.
    pub(super) async fn print(&mut self, stream: Stream, bytes: Bytes) -> io::Result<()> {
        tokio::select! {
            sent = self.pieces.send((stream, bytes)) => if sent.is_ok() {
                return Ok(());
            },
            error = overdue(&self.hurry) => return Err(error),
        }
        Err(self.failed().await)
    }

    /// Waits until something could not be written.
    pub(super) async fn failed(&mut self) -> io::Error {
        match (&mut self.written).await {
            Ok(Err(error)) => error,
            // It ends by itself only where writing panics, or after the last piece.
            Ok(Ok(())) | Err(_) => io::Error::other("the thread that writes has ended"),
        }
    }

    /// Waits until all is written.
    pub(super) async fn finish(self) -> io::Result<()> {
        drop(self.pieces);
        tokio::select! {
            written = self.written => written.unwrap_or(Ok(())),
            error = overdue(&self.hurry) => Err(error),
        }
    }
}

async fn overdue(hurry: &CancellationToken) -> io::Error {
    hurry.cancelled().await;
    sleep(PATIENCE).await;
    io::Error::new(io::ErrorKind::TimedOut, "nobody reads the output")
}

fn write_all(mut pieces: mpsc::Receiver<Piece>, output: Output) -> io::Result<()> {
    while let Some((stream, bytes)) = pieces.blocking_recv() {
        match stream {
            Stream::Stdout => output.raw(&bytes)?,
            Stream::Stderr => io::stderr().write_all(&bytes)?,
        }
    }
    Ok(())
}
