//! `--bar`: how far the run is, on standard error.
use std::fmt::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// Between two frames of the bar when nothing ends.
const FRAME: Duration = Duration::from_millis(250);
const KNOWN: &str = "{wide_bar} {pos}/{len}{msg}  {rate}  eta {eta}";
const UNKNOWN: &str = "{spinner} {pos}{msg}  {rate}  {elapsed}";

/// A progress bar, drawn only on a terminal.
#[derive(Debug)]
pub struct Bar {
    drawn: ProgressBar,
    total: Option<u64>,
    failed: u64,
}

impl Bar {
    /// A bar that is shown, or one that is not.
    #[must_use]
    pub fn new(shown: bool) -> Self {
        let bar = if shown {
            ProgressBar::no_length()
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(style(UNKNOWN));
        if shown {
            bar.enable_steady_tick(FRAME);
        }
        Self {
            drawn: bar,
            total: None,
            failed: 0,
        }
    }

    /// Takes note of how many jobs there are, once that is known.
    pub fn set_total(&mut self, total: Option<u64>) {
        if self.total.is_none()
            && let Some(total) = total
        {
            self.total = Some(total);
            self.drawn.set_length(total);
            self.drawn.set_style(style(KNOWN));
        }
    }

    /// A job ended.
    pub fn count(&mut self, success: bool) {
        if !success {
            self.failed += 1;
            self.drawn.set_message(format!(", {} failed", self.failed));
        }
        self.drawn.inc(1);
    }

    /// Writes something else to the terminal, with the bar out of the way.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.drawn.suspend(write)
    }

    /// Leaves the last state on the screen; what is written from now on stands below it.
    pub fn leave(&self) {
        if !self.drawn.is_finished() {
            self.drawn.abandon();
            if !self.drawn.is_hidden() {
                // The bar leaves the cursor at its end.
                eprintln!();
            }
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.leave();
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    style
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", |state: &ProgressState, text: &mut dyn Write| {
            let _ = write!(text, "{:.1}/s", state.per_sec());
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_are_understood() {
        for template in [KNOWN, UNKNOWN] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
