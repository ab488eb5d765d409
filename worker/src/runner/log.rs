//! A runner's standard error, line by line into the worker's log.

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::process::ChildStderr;

use super::lines::Lines;

/// The longest line of the log in bytes; a longer one goes on in the next.
const LIMIT: usize = 8 * 1024;

/// Logs every line until the stream ends.
pub(super) async fn run(mut stderr: ChildStderr, pid: Option<u32>) {
    let mut lines = Lines::new(LIMIT);
    while let Ok(1..) = stderr.read_buf(lines.space()).await {
        while let Some(line) = lines.next() {
            write(&line, pid);
        }
        if lines.is_full() {
            write(&lines.rest(), pid);
        }
    }
    let rest = lines.rest();
    if !rest.is_empty() {
        write(&rest, pid);
    }
}

fn write(line: &Bytes, pid: Option<u32>) {
    tracing::info!(target: "pmq::runner", pid, "{}", String::from_utf8_lossy(line).trim_end());
}
