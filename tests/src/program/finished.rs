//! A program that has ended: its exit code and its output, in the forms that tests ask for.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use serde_json::Value;

use super::capture::both;

/// How a program ended, and all that it printed.
#[derive(Debug)]
#[must_use]
pub struct Finished {
    /// Its exit code or signal.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    pub(super) shown: String,
}

impl Finished {
    /// The exit code, or 128 + the signal that ended it, as a shell shows it.
    #[must_use]
    pub fn code(&self) -> i32 {
        let by_signal = || 128 + self.status.signal().unwrap_or_default();
        self.status.code().unwrap_or_else(by_signal)
    }

    /// Fails the test, with the output shown, unless the exit code is `expected`.
    #[track_caller]
    pub fn expect_code(self, expected: i32) -> Self {
        let code = self.code();
        assert!(
            code == expected,
            "{:?} exited with {code}, not {expected}\n{}",
            self.shown,
            both(&self.text(), &self.error_text()),
        );
        self
    }

    /// Standard output as text; invalid UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text; invalid UTF-8 is replaced.
    #[must_use]
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The lines of standard output.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// Standard output as JSON lines.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let parse = |line: String| serde_json::from_str(&line);
        let values: Result<_, _> = self.lines().into_iter().map(parse).collect();
        values.unwrap_or_else(|error| {
            panic!(
                "{:?} printed what is not JSON: {error}\n{}",
                self.shown,
                self.text()
            )
        })
    }
}
