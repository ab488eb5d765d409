//! The output of a process, on the matching streams of this one.

use pmq_broker::process::{Log, Piece, Stream};

use super::printer::Printer;

/// Shows what a process prints, as it comes, until it has ended and all is written. Where this process can't write,
/// the error is an [`std::io::Error`].
pub(super) async fn stream(mut log: Log, mut printer: Printer) -> anyhow::Result<()> {
    loop {
        let piece = tokio::select! {
            piece = log.next() => piece?,
            error = printer.failed() => return Err(error.into()),
        };
        let Some(piece) = piece else {
            return Ok(printer.finish().await?);
        };
        let (stream, bytes) = match piece {
            Piece::Output { stream, bytes, .. } => (stream, bytes),
            Piece::Lost { bytes } => {
                let note = format!("pmq: note: {bytes} bytes of its output are lost\n");
                (Stream::Stderr, note.into())
            }
        };
        printer.print(stream, bytes).await?;
    }
}
