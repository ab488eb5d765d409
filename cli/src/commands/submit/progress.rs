//! How far a bulk is, on standard error where that is a terminal.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::plural::counted;

/// A bar over the input's bytes, or a counter where its size is not known. Nothing where nobody looks.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(size: Option<u64>) -> Self {
        // Where the ids go to a terminal, they show the progress, and a bar would stand between them.
        let target = if io::stdout().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(size, target);
        let template = match size {
            Some(_) => "{wide_bar} {percent:>3}%  {msg}  {elapsed}, {eta} left",
            None => "{spinner} {msg}  {elapsed}",
        };
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// So many more bytes of the input are in, and so many tasks in all.
    pub(super) fn advance(&self, bytes: u64, tasks: u64) {
        self.0.set_message(counted(tasks, "task"));
        self.0.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
