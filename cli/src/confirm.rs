//! Asking before something is deleted.

use std::io::{self, IsTerminal, Write};
use std::thread;

use tokio::sync::oneshot;

use crate::failure::Failure;

/// Returns whether to go on: with `yes`, or when somebody at the terminal agrees. Elsewhere `--yes` is needed.
pub(crate) async fn confirm(question: &str, yes: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage(format!("this would {question}"))
            .with_hint("add --yes to do it without being asked")
            .into());
    }
    let mut err = io::stderr();
    write!(err, "pmq: {question}? [y/N] ")?;
    err.flush()?;
    let answer = answer().await?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Reads a line in a thread of its own, so that Ctrl-C ends the question.
async fn answer() -> io::Result<String> {
    let (sender, line) = oneshot::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().read_line(&mut line).map(|_| line);
        // The question may be over.
        let _ = sender.send(read);
    });
    line.await.unwrap_or_else(|_| Ok(String::new()))
}
