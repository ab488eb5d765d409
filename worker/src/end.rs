//! How a run ended, before it is told to the broker.

use bytes::Bytes;
use pmq_broker::task::BODY_LIMIT;
use pmq_broker::task_queue::How;
use pmq_broker::{Report, Task};

use crate::TaskError;
use crate::child::{self, CommandError, Ended, Exit};
use crate::held::Why;

/// How a run ended.
pub(crate) enum End {
    Finished {
        how: How,
        exit: Option<i32>,
        report: Report,
        body: Bytes,
    },
    /// Hand it back: the worker stops, or has trouble of its own.
    Released,
    /// Another worker may be able to run it.
    Refused(String),
    /// The lease is lost, so nobody wants the result.
    Dropped,
}

impl End {
    pub(crate) fn ok(body: Bytes) -> Self {
        Self::Finished {
            how: How::Ok,
            exit: None,
            report: Report::default(),
            body,
        }
    }

    pub(crate) fn failed(how: How, error: impl Into<String>) -> Self {
        let report = Report {
            error: Some(error.into()),
            ..Report::default()
        };
        Self::Finished {
            how,
            exit: None,
            report,
            body: Bytes::new(),
        }
    }

    pub(crate) fn panicked(message: &str) -> Self {
        Self::failed(How::Failed, format!("the handler panicked: {message}"))
    }

    pub(crate) fn timed_out(task: &Task) -> Self {
        Self::failed(How::Failed, out_of_time(task))
    }

    /// What never started has the exit code that a shell would give it.
    pub(crate) fn not_started(error: &CommandError) -> Self {
        Self::without_output(chain(error), error.exit_code())
    }

    fn without_output(error: String, exit: Option<i32>) -> Self {
        let report = Report {
            error: Some(error),
            stdout: Some(0),
            stderr: Some(0),
            ..Report::default()
        };
        Self::Finished {
            how: How::Failed,
            exit,
            report,
            body: Bytes::new(),
        }
    }

    /// The end of a command; its body is its standard output, then its standard error.
    pub(crate) fn of_command(ended: Ended, task: &Task) -> Self {
        let exit = match ended.exit {
            Exit::Code(code) => code,
            Exit::Signal(signal) => -signal,
        };
        let error = (ended.why == child::Why::TimedOut).then(|| out_of_time(task));
        let how = if exit == 0 && error.is_none() {
            How::Ok
        } else {
            How::Failed
        };
        let mut body = ended.stdout.into_bytes();
        let stdout = body.len();
        body.extend_from_slice(&ended.stderr.into_bytes());
        let stderr = body.len() - stdout;
        let report = Report {
            error,
            stdout: Some(stdout),
            stderr: Some(stderr),
            ..Report::default()
        };
        Self::Finished {
            how,
            exit: Some(exit),
            report,
            body: body.into(),
        }
    }

    /// What it means where the run was told to stop, and why it was.
    pub(crate) fn after_stop(self, why: Option<Why>) -> Self {
        let done = matches!(&self, Self::Finished { how: How::Ok, .. });
        match why {
            Some(Why::Lost) => Self::Dropped,
            Some(Why::Cancelled) if !done => self.cancelled(),
            Some(Why::Shutdown) if !done => Self::Released,
            _ => self,
        }
    }

    /// Whether no other run of the task can follow.
    pub(crate) fn is_last(&self, task: &Task) -> bool {
        match self {
            Self::Finished { how, .. } => *how != How::Failed || task.retry.attempts <= 1,
            Self::Released | Self::Refused(_) | Self::Dropped => false,
        }
    }

    /// Adds how many bytes the log of the process has.
    pub(crate) fn with_log(mut self, bytes: u64) -> Self {
        if let Self::Finished { report, .. } = &mut self {
            report.log = Some(bytes);
        }
        self
    }

    fn cancelled(self) -> Self {
        self.stopped(How::Cancelled, "cancelled while it ran")
    }

    /// What it means that the run was stopped and is not tried again; a run that did well did so before.
    pub(crate) fn failed_with(self, error: &str) -> Self {
        if matches!(&self, Self::Finished { how: How::Ok, .. }) {
            return self;
        }
        self.stopped(How::Failed, error)
    }

    fn stopped(self, how: How, error: &str) -> Self {
        let Self::Finished {
            exit,
            mut report,
            body,
            ..
        } = self
        else {
            return Self::failed(how, error);
        };
        report.error = Some(error.into());
        Self::Finished {
            how,
            exit,
            report,
            body,
        }
    }

    /// Says when the task was submitted, where its id does not, and refuses a result that is too large to keep.
    pub(crate) fn checked(mut self, task: &Task) -> Self {
        if let Self::Finished { body, .. } = &self
            && body.len() > BODY_LIMIT
        {
            let error = format!(
                "the result has {} bytes, more than the limit of {BODY_LIMIT}",
                body.len()
            );
            self = Self::failed(How::FailedForGood, error);
        }
        if let Self::Finished { report, .. } = &mut self
            && task.details.queued_ms > 0
        {
            report.queued_ms = Some(task.details.queued_ms);
        }
        self
    }
}

impl From<TaskError> for End {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Retry(text) => Self::failed(How::Failed, text),
            TaskError::ForGood(text) => Self::failed(How::FailedForGood, text),
        }
    }
}

fn out_of_time(task: &Task) -> String {
    format!("timed out after {} ms", task.details.timeout_ms)
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_beyond_the_limit_fails_for_good() {
        let task = Task::handler("t", "");
        let end = End::ok(vec![0; BODY_LIMIT + 1].into()).checked(&task);
        assert!(
            matches!(end, End::Finished { how: How::FailedForGood, body, .. } if body.is_empty())
        );
    }

    #[test]
    fn what_was_done_before_the_stop_counts() {
        let done = || End::ok(Bytes::new());
        assert!(matches!(
            done().after_stop(Some(Why::Cancelled)),
            End::Finished { how: How::Ok, .. }
        ));
        assert!(matches!(done().after_stop(Some(Why::Lost)), End::Dropped));
        let failed = || End::failed(How::Failed, "stopped");
        assert!(matches!(
            failed().after_stop(Some(Why::Shutdown)),
            End::Released
        ));
        assert!(matches!(
            failed().after_stop(Some(Why::Cancelled)),
            End::Finished {
                how: How::Cancelled,
                ..
            }
        ));
    }
}
