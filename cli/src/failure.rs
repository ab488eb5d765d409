//! What the user reads where something went wrong, and the exit code that goes with it.

use std::io::{self, Write};

use pmq_broker::connection::local::LocalError;
use pmq_broker::{Error, ProcessError};

use crate::exit::Exit;
use crate::map::joblog::JoblogError;
use crate::plural::counted;

/// A failure that the command itself found.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    text: String,
    hint: Option<String>,
    exit: Exit,
}

impl Failure {
    /// A failure in one lowercase sentence.
    #[must_use]
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            hint: None,
            exit,
        }
    }

    /// The command was called in a wrong way.
    #[must_use]
    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::USAGE, text)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Tells the user on standard error, and chooses the exit code.
#[must_use]
pub fn report(error: &anyhow::Error) -> Exit {
    if is_broken_pipe(error) {
        return Exit::BROKEN_PIPE;
    }
    let mut message = format!("pmq: error: {}\n", sentence(error));
    if let Some(hint) = hint(error) {
        message = format!("{message}hint: {hint}\n");
    }
    // Nobody is left to tell where standard error is closed.
    let _ = io::stderr().write_all(message.as_bytes());
    exit(error)
}

/// The causes joined by colons. Some causes repeat what the one before them said, and are left out.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain() {
        let known = cause.downcast_ref::<Error>();
        let is_told = matches!(known, Some(Error::Login { .. } | Error::Full { .. }));
        let cause = known.map_or_else(|| cause.to_string(), told);
        if sentence.is_empty() {
            sentence = cause;
        } else if !sentence.contains(&cause) {
            sentence.push_str(": ");
            sentence.push_str(&cause);
        }
        // What stands behind these is said already.
        if is_told {
            break;
        }
    }
    sentence
}

/// A broker's error in words for whoever typed the command.
pub(crate) fn told(error: &Error) -> String {
    match error {
        Error::Full { queue, what, limit } if what == "tasks" => {
            format!(
                "queue {queue} is full: it holds {}",
                counted(*limit, "task")
            )
        }
        Error::Full { queue, limit, .. } => format!(
            "a completion queue of queue {queue} is full: it holds {}",
            counted(*limit, "completion")
        ),
        Error::Login { at, source } if source.code() == Some("NOAUTH") => {
            format!("the broker at {at} refused the login: it wants a password")
        }
        Error::Login { at, .. } => {
            format!("the broker at {at} refused the login: wrong user name or password")
        }
        error => error.to_string(),
    }
}

fn hint(error: &anyhow::Error) -> Option<String> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.hint.clone();
    }
    let of_process = error.downcast_ref().and_then(ProcessError::hint);
    let of_broker = || error.downcast_ref().and_then(Error::hint);
    of_process.or_else(of_broker).map(str::to_owned)
}

fn exit(error: &anyhow::Error) -> Exit {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.exit;
    }
    if let Some(error) = error.downcast_ref::<LocalError>() {
        return exit_of_local(error);
    }
    match error.downcast_ref::<JoblogError>() {
        Some(JoblogError::NotAJoblog { .. } | JoblogError::OtherRun { .. }) => return Exit::USAGE,
        Some(JoblogError::InUse { .. }) => return Exit::TRY_AGAIN,
        _ => {}
    }
    match error.downcast_ref::<ProcessError>() {
        Some(ProcessError::StartTimeout { .. }) => Exit::UNAVAILABLE,
        Some(ProcessError::Broker(error)) => exit_of_broker(Some(error)),
        _ => exit_of_broker(error.downcast_ref()),
    }
}

fn exit_of_broker(error: Option<&Error>) -> Exit {
    match error {
        Some(
            Error::BadName { .. }
            | Error::BadId { .. }
            | Error::BadOption(_)
            | Error::BadUrl(_)
            | Error::TooLarge { .. },
        ) => Exit::USAGE,
        Some(
            Error::Unreachable { .. }
            | Error::Tls { .. }
            | Error::Insecure { .. }
            | Error::CannotWrite { .. }
            | Error::Login { .. }
            | Error::Denied { .. }
            | Error::NoThread(_)
            | Error::NewerLayout(_)
            | Error::Unsuitable(_),
        ) => Exit::UNAVAILABLE,
        Some(Error::Local(error)) => exit_of_local(error),
        Some(Error::Full { .. } | Error::OutOfMemory(_) | Error::Unconfirmed { .. }) => {
            Exit::TRY_AGAIN
        }
        _ => Exit::FAILED,
    }
}

fn exit_of_local(error: &LocalError) -> Exit {
    match error {
        LocalError::Busy { .. } | LocalError::Locked { .. } => Exit::TRY_AGAIN,
        LocalError::InvalidName { .. } => Exit::USAGE,
        _ => Exit::UNAVAILABLE,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
        && error.downcast_ref::<Error>().is_none()
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use pmq_broker::Name;

    use super::*;

    #[test]
    fn causes_are_joined_and_not_repeated() {
        let cause = io::Error::other("disk on fire");
        let error = anyhow::Error::from(cause)
            .context("could not read x: disk on fire")
            .context("line 3");
        assert_eq!(sentence(&error), "line 3: could not read x: disk on fire");
    }

    #[test]
    fn exit_codes_and_hints_are_found_behind_what_was_added() {
        let full = Error::Full {
            queue: Name::new("q").unwrap(),
            what: "tasks".into(),
            limit: 3,
        };
        let error = Err::<(), _>(full).context("line 9").unwrap_err();
        assert_eq!(
            sentence(&error),
            "line 9: queue q is full: it holds 3 tasks"
        );
        assert_eq!(exit(&error), Exit::TRY_AGAIN);
        assert!(hint(&error).is_some_and(|hint| hint.contains("raise the limit")));

        let error = anyhow::Error::from(Failure::usage("no").with_hint("do")).context("c");
        assert_eq!(
            (exit(&error), hint(&error).as_deref()),
            (Exit::USAGE, Some("do"))
        );
        assert_eq!(exit(&anyhow::anyhow!("else")), Exit::FAILED);
    }

    #[test]
    fn a_broken_pipe_of_the_output_is_told_from_other_errors() {
        let pipe = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::from(pipe()).context("c")));
        assert!(!is_broken_pipe(&io::Error::other("x").into()));
    }
}
