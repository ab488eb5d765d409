//! How a command ended.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::Captured;

/// All that is known of a command that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The exit code or signal of the command itself, not of what it started.
    pub exit: Exit,
    /// What it and its children wrote to standard output.
    pub stdout: Captured,
    /// What it and its children wrote to standard error.
    pub stderr: Captured,
    /// Whether it ended by itself.
    pub why: Why,
}

/// The status with which a process left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code, 0 to 255.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// Why a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It ended by itself (a signal from elsewhere included).
    Finished,
    /// Its time was up, so it was terminated.
    TimedOut,
    /// The caller asked it to stop, so it was terminated.
    Stopped,
}

impl Exit {
    /// The number that a shell shows for this exit: the code, or 128 and the signal.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            // A reaped child has left by one of the two; a stopped one is not reported.
            (None, None) => Self::Code(status.into_raw()),
        }
    }
}
