//! What an error says about the call, and when to try again.

use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::assurance::UNCONFIRMED;
use super::refusal::Refusal;
use super::tls::TlsProblem;
use crate::error::Error;

/// What a failed call tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It did not run, or nobody knows: the same call may be sent again, as each call is idempotent.
    Again,
    /// The connection is gone: the same, over a new one.
    Reconnect,
    /// The library is not loaded.
    NoFunction,
    /// Sending it again would not help.
    Fatal,
}

pub(crate) fn class(error: &RedisError) -> Class {
    if error.to_string().contains("Function not found") {
        return Class::NoFunction;
    }
    if Refusal::of(error).is_some() {
        return Class::Fatal;
    }
    match error.kind() {
        ErrorKind::Io => Class::Reconnect,
        ErrorKind::Parse => Class::Fatal,
        ErrorKind::Server(kind) => class_of(kind),
        // A call that blocked when its server became a replica.
        _ if error.code() == Some("UNBLOCKED") => Class::Reconnect,
        _ if matches!(
            error.code(),
            Some("BUSY" | "NOREPLICAS" | "TRYAGAIN" | "LOADING" | "MISCONF")
        ) =>
        {
            Class::Again
        }
        _ if error.is_unrecoverable_error() && !is_login(error) => Class::Reconnect,
        _ => Class::Fatal,
    }
}

fn class_of(kind: ServerErrorKind) -> Class {
    match kind {
        ServerErrorKind::BusyLoading
        | ServerErrorKind::TryAgain
        | ServerErrorKind::ClusterDown
        | ServerErrorKind::Moved
        | ServerErrorKind::Ask => Class::Again,
        ServerErrorKind::MasterDown | ServerErrorKind::ReadOnly => Class::Reconnect,
        _ => Class::Fatal,
    }
}

/// Whether the server says that the call had no effect.
pub(super) fn did_not_run(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(kind) => class_of(kind) != Class::Fatal,
        _ => error.code() == Some("UNBLOCKED"),
    }
}

fn is_login(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
}

/// The error that users see.
pub(crate) fn explain(error: RedisError, at: &str, doing: &'static str) -> Error {
    let at = at.to_owned();
    if let Some(refusal) = Refusal::of(&error) {
        return refusal.clone().into();
    }
    if let Some(problem) = TlsProblem::of(&error) {
        return Error::Tls { at, problem };
    }
    let text = error.to_string();
    if error.kind() == ErrorKind::Parse {
        return Error::Unsuitable(format!("what answers at {at} is no Redis"));
    }
    if is_login(&error) {
        return Error::Login { at, source: error };
    }
    if let Some(text) = misplaced(&text, &at) {
        return Error::Unsuitable(text);
    }
    match error.code() {
        Some("PMQLAYOUT") => {
            return Error::NewerLayout(
                error
                    .detail()
                    .unwrap_or("the queue has a newer data layout")
                    .to_owned(),
            );
        }
        Some("NOPERM") => return Error::Denied { at, source: error },
        Some("OOM") => return Error::OutOfMemory(error),
        Some(UNCONFIRMED) => return Error::Unconfirmed { at, doing },
        Some("MISCONF") => return Error::CannotWrite { at, source: error },
        _ if text.contains("can't run this command") || text.contains("No permissions") => {
            return Error::Denied { at, source: error };
        }
        _ => {}
    }
    match class(&error) {
        Class::Again | Class::Reconnect => Error::Unreachable { at, source: error },
        Class::NoFunction => Error::Denied { at, source: error },
        Class::Fatal => Error::Unexpected {
            doing,
            source: error,
        },
    }
}

/// What the URL mistakes the server for, where an error says that it is something else.
fn misplaced(error: &str, at: &str) -> Option<String> {
    let is = |text: &str| error.contains(text);
    if is("cluster support disabled") {
        Some(format!(
            "what answers at {at} is no node of a Redis Cluster: the URL of a single server begins with redis://"
        ))
    } else if is("No such master with that name") {
        Some(format!(
            "no sentinel knows {at}: the URL ends with the name that `sentinel monitor` in sentinel.conf gives the primary"
        ))
    } else if is("unknown command") && is("SENTINEL") {
        Some(format!(
            "what answers at {at} is no sentinel: they usually listen on port 26379"
        ))
    } else {
        None
    }
}

/// Full jitter between nothing and a bound that doubles from 50 ms to 2 s, so that a fleet does not come back as one.
pub(crate) fn pause(tries: u32) -> Duration {
    let bound = 50u64 << tries.min(6);
    Duration::from_millis(5 + fastrand::u64(0..bound.min(2000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_error(code: &str) -> RedisError {
        redis::make_extension_error(code.to_owned(), Some("words".to_owned()))
    }

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        for code in ["BUSY", "LOADING", "MISCONF", "NOREPLICAS"] {
            assert_eq!(class(&server_error(code)), Class::Again, "{code}");
        }
        assert_eq!(class(&server_error("WRONGTYPE")), Class::Fatal);
        let late = RedisError::from((ErrorKind::Io, "late"));
        assert_eq!(class(&late), Class::Reconnect);
    }

    #[test]
    fn a_full_disk_or_memory_of_the_broker_is_told_apart_and_passes() {
        let disk = explain(server_error("MISCONF"), "h:1", "finish");
        let memory = explain(server_error("OOM"), "h:1", "submit");
        assert!(matches!(disk, Error::CannotWrite { .. }) && disk.is_transient());
        assert!(matches!(memory, Error::OutOfMemory(_)) && memory.is_transient());
    }
}
