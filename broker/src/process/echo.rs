//! What a process prints, on the streams of its parent.

use std::io::{self, Write};

use tokio_util::sync::CancellationToken;

use super::{Handle, Log, Piece, Stream};

impl Handle {
    /// Copies what the process prints to the streams of this one, until it has ended.
    pub(super) fn echo(&self) {
        let (log, done) = (self.log(), CancellationToken::new());
        let done_at_last = done.clone().drop_guard();
        // It is set once, as a process is started once.
        let _ = self.facts.echoed.set(done);
        tokio::spawn(async move {
            let _done_at_last = done_at_last;
            if let Err(error) = copy(log).await {
                tracing::warn!(target: "pmq", %error, "could not read what a process prints");
            }
        });
    }

    /// Waits until all that it printed was copied, where that is done at all.
    pub(super) async fn echoed(&self) {
        if let Some(done) = self.facts.echoed.get() {
            done.cancelled().await;
        }
    }
}

async fn copy(mut log: Log) -> crate::error::Result<()> {
    while let Some(piece) = log.next().await? {
        match piece {
            Piece::Output { stream, bytes, .. } => write(stream, &bytes),
            Piece::Lost { bytes } => {
                tracing::warn!(target: "pmq", "{bytes} bytes that a process printed were lost");
            }
        }
    }
    Ok(())
}

/// As nobody may read this stream any more, what can't be written is let go.
fn write(stream: Stream, bytes: &[u8]) {
    let _ = match stream {
        Stream::Stdout => io::stdout()
            .write_all(bytes)
            .and_then(|()| io::stdout().flush()),
        Stream::Stderr => io::stderr().write_all(bytes),
    };
}
