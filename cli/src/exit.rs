//! The exit codes of `pmq`. They are part of its interface: scripts rely on them.

use std::process::ExitCode;

use pmq_broker::{Completion, Outcome};

/// How the command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exit(u8);

impl Exit {
    /// It did what it should.
    pub const OK: Self = Self(0);
    /// It failed, or the task that it waited for did.
    pub const FAILED: Self = Self(1);
    /// It was called in a wrong way. Nothing was done.
    pub const USAGE: Self = Self(2);
    /// There is no broker, or none that can be used, or no worker.
    pub const UNAVAILABLE: Self = Self(69);
    /// Empty, full or busy: the same call may succeed later.
    pub const TRY_AGAIN: Self = Self(75);
    /// What was held while a command ran was lost.
    pub const LOST: Self = Self(76);
    /// The time was up.
    pub const TIMED_OUT: Self = Self(124);
    /// Ctrl-C.
    pub const INTERRUPTED: Self = Self(130);
    /// Whoever read the output stopped reading, as SIGPIPE would tell.
    pub const BROKEN_PIPE: Self = Self(141);

    /// The code of a task: its command's own, 128 and the signal that ended it, else 0 or 1 by its outcome.
    #[must_use]
    pub fn of_task(completion: &Completion) -> Self {
        match (completion.outcome, completion.exit) {
            (Outcome::Ok, None | Some(0)) => Self::OK,
            (_, None | Some(0)) => Self::FAILED,
            (_, Some(signal)) if signal < 0 => {
                Self(128_u8.saturating_add(signal.unsigned_abs().min(127) as u8))
            }
            (_, Some(code)) => Self(u8::try_from(code).unwrap_or(1)),
        }
    }

    /// The code of `pmq map` once a job has run: what GNU parallel would exit with.
    #[must_use]
    pub const fn of_jobs(code: u8) -> Self {
        Self(code)
    }

    /// The code of a command that was run here: its own, or 128 and the signal that ended it.
    #[must_use]
    pub fn of_command(exit: pmq_worker::child::Exit) -> Self {
        Self::of_command_code(exit.shell_code())
    }

    /// The code that a shell shows for a command.
    #[must_use]
    pub fn of_command_code(code: i32) -> Self {
        Self(u8::try_from(code).unwrap_or(1))
    }

    /// The code of a command that gave up on this signal.
    #[must_use]
    pub fn of_signal(signal: tokio::signal::unix::SignalKind) -> Self {
        Self::of_command_code(128 + signal.as_raw_value())
    }

    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        self.0
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.0.into()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pmq_broker::{Report, TaskId};

    use super::*;

    fn code(outcome: Outcome, exit: Option<i32>) -> u8 {
        let completion = Completion {
            id: TaskId::new(),
            outcome,
            exit,
            digest: [0; 8],
            token: 1,
            attempt: 1,
            started_us: 0,
            finished_us: 0,
            worker: String::new(),
            report: Report::default(),
            body: Bytes::new(),
        };
        Exit::of_task(&completion).code()
    }

    #[test]
    fn a_task_hands_its_own_code_on() {
        let cases = [
            (Outcome::Ok, Some(0), 0),
            (Outcome::Ok, None, 0),
            (Outcome::Failed, Some(7), 7),
            (Outcome::Failed, Some(-9), 137),
            (Outcome::Cancelled, Some(-15), 143),
            // Terminated, it may still have left with 0: it did not do what it should.
            (Outcome::Failed, Some(0), 1),
            (Outcome::Dead, None, 1),
            (Outcome::Failed, Some(70_000), 1),
        ];
        for (outcome, exit, expected) in cases {
            assert_eq!(code(outcome, exit), expected, "{outcome:?} {exit:?}");
        }
    }
}
