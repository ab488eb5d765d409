//! Asking before something is deleted.

use std::io::{self, IsTerminal, Write};

use crate::failure::Failure;

/// Returns whether to go on: with `yes`, or when somebody at the terminal agrees. Elsewhere `--yes` is needed.
pub(crate) fn confirm(question: &str, yes: bool) -> anyhow::Result<bool> {
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
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
