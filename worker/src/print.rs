//! What a handler prints.

use std::fmt::Display;
use std::io::Write;

use pmq_broker::process::Stream;
use tokio::sync::mpsc;

use crate::process_log::Chunk;

tokio::task_local! {
    /// The log of the process that a handler is.
    static LOG: mpsc::Sender<Chunk>;
}

/// Prints a line: to the log of the process that a handler runs as, which its parent may show, wherever it is; elsewhere
/// on standard output. In Python this is `print`.
///
/// As [`current_process`](pmq_broker::process::current_process) it knows the process in the handler itself, not in tasks
/// of the runtime that it spawns.
pub async fn print(line: impl Display) {
    let line = format!("{line}\n");
    if let Ok(log) = LOG.try_with(Clone::clone) {
        // A log that is closed belongs to a process that has ended.
        let _ = log.send((Stream::Stdout, line.into())).await;
    } else {
        // Nobody may read it any more.
        let _ = std::io::stdout().write_all(line.as_bytes());
    }
}

/// Runs a handler whose lines go to `log`.
pub(crate) async fn printing_to<F: Future>(log: mpsc::Sender<Chunk>, handler: F) -> F::Output {
    LOG.scope(log, handler).await
}
