//! How a job ended, read from the completion of its task.
use pmq_broker::{Completion, Outcome};

use super::exit::Exit;

/// The code of a job that came to no end of its own: its workers died, or none would run it.
const NO_END: i32 = 255;

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// In the numbers of the joblog.
    pub exit: Exit,
    /// Why, where the command itself could not say so.
    pub why: Option<String>,
}

impl Verdict {
    /// Reads a completion.
    #[must_use]
    pub fn of(completion: &Completion) -> Self {
        let why = completion.report.error.clone();
        if completion.outcome == Outcome::Ok {
            return Self {
                exit: Exit::code(0),
                why: None,
            };
        }
        let exit = match completion.exit {
            // Only the text tells this one, as the command may have handled the signal and left with any code.
            _ if why.as_ref().is_some_and(|why| why.starts_with("timed out")) => Exit::timed_out(),
            Some(signal) if signal < 0 => Exit::signal(-signal),
            // Stopped for some reason, it may still have left with 0: it did not do what it should.
            None | Some(0) => Exit::code(NO_END),
            Some(code) => Exit::code(code),
        };
        let why = why.or_else(|| {
            let told = completion.exit.is_some();
            (!told).then(|| format!("the task ended as {}", completion.outcome.as_str()))
        });
        Self { exit, why }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pmq_broker::{Report, TaskId};

    use super::*;

    fn verdict(outcome: Outcome, exit: Option<i32>, error: Option<&str>) -> Verdict {
        let report = Report {
            error: error.map(String::from),
            ..Report::default()
        };
        Verdict::of(&Completion {
            id: TaskId::new(),
            outcome,
            exit,
            digest: [0; 8],
            token: 1,
            attempt: 1,
            started_us: 0,
            finished_us: 0,
            worker: String::new(),
            report,
            body: Bytes::new(),
        })
    }

    #[test]
    fn each_end_has_its_numbers_and_only_silent_ones_a_reason() {
        use Outcome::{Cancelled, Dead, Failed, Ok};
        let cases = [
            (Ok, Some(0), None, Exit::code(0), None),
            (Failed, Some(3), None, Exit::code(3), None),
            (Failed, Some(-9), None, Exit::signal(9), None),
            (
                Failed,
                Some(127),
                Some("no program"),
                Exit::code(127),
                Some("no program"),
            ),
            (
                Failed,
                Some(1),
                Some("timed out after 5 ms"),
                Exit::timed_out(),
                Some("timed out after 5 ms"),
            ),
            (
                Dead,
                None,
                Some("its workers died"),
                Exit::code(255),
                Some("its workers died"),
            ),
            (
                Cancelled,
                None,
                None,
                Exit::code(255),
                Some("the task ended as cancelled"),
            ),
        ];
        for (outcome, code, error, exit, why) in cases {
            let expected = Verdict {
                exit,
                why: why.map(String::from),
            };
            assert_eq!(verdict(outcome, code, error), expected);
        }
    }
}
