//! The output of a process, on the matching streams of this one.

use std::io::{self, Write};

use pmq_broker::process::{Log, Piece, Stream};

use crate::output::{Output, note};

/// Shows what a process prints, as it comes, until it has ended.
pub(crate) async fn stream(mut log: Log, output: Output) -> anyhow::Result<()> {
    while let Some(piece) = log.next().await? {
        match piece {
            Piece::Output {
                stream: Stream::Stdout,
                bytes,
                ..
            } => output.raw(&bytes)?,
            Piece::Output {
                stream: Stream::Stderr,
                bytes,
                ..
            } => io::stderr().write_all(&bytes)?,
            Piece::Lost { bytes } => note(&format!("note: {bytes} bytes of its output are lost")),
        }
    }
    Ok(())
}
