//! What can go wrong with a process, and what to do about it.

use std::time::Duration;

use crate::error::Error;
use crate::ids::{Name, TaskId};

/// Why a process could not be used like this. [`ProcessError::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// `start` was called a second time.
    #[error("cannot start a process twice")]
    StartedTwice,

    /// It was used before `start`.
    #[error("can only {doing} a started process")]
    NotStarted {
        /// What was asked of it.
        doing: &'static str,
    },

    /// `close` was called while it runs.
    #[error("cannot close a process while it is still running")]
    StillRunning,

    /// It was used after `close`.
    #[error("process object is closed")]
    Closed,

    /// A daemon has no children: nobody would end them.
    #[error("daemonic processes are not allowed to have children")]
    DaemonicChildren,

    /// No worker started it in time; it was cancelled.
    #[error("no worker of queue {queue} had a free slot for the process within {timeout:?}")]
    StartTimeout {
        /// The queue.
        queue: Name,
        /// How long it waited.
        timeout: Duration,
    },

    /// Nothing is known of it: never submitted to this queue, or it ended longer ago than results are kept.
    #[error("no process {id} is known on queue {queue}")]
    Unknown {
        /// The id.
        id: TaskId,
        /// The queue.
        queue: Name,
    },

    /// Its arguments have no JSON form.
    #[error("its arguments are no JSON")]
    Arguments(#[source] serde_json::Error),

    /// It has no result, because it failed.
    #[error("process {name} ended with exit code {exitcode}: {reason}")]
    Failed {
        /// Its name.
        name: String,
        /// Its exit code.
        exitcode: i32,
        /// What it said about that.
        reason: String,
    },

    /// Its result is of another type.
    #[error("the result of process {name} is of another type")]
    Result {
        /// Its name.
        name: String,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },

    /// The broker could not be asked.
    #[error(transparent)]
    Broker(#[from] Error),
}

impl ProcessError {
    /// What to do about it, in one sentence, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::StartedTwice => "make another process: each one runs once",
            Self::NotStarted { .. } => "call start first",
            Self::StillRunning => "join or kill it first",
            Self::DaemonicChildren => "start the parent without daemon(true)",
            Self::StartTimeout { .. } => {
                "is a worker of this queue up that runs such work, and has it a free slot? `pmq status` tells; \
                 `pmq worker --allow-commands` runs commands"
            }
            Self::Unknown { .. } => {
                "was it started on another queue or namespace, or did it end longer ago than the queue's retention time?"
            }
            Self::Broker(error) => return error.hint(),
            _ => return None,
        })
    }
}
