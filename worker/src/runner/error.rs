//! Why a runner gave no answer to a task.

use std::sync::Arc;

use crate::child::{CommandError, Exit};

/// Why a runner gave no answer to a task.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// The child ended while this was its oldest task. Its log says why, under `pmq::runner`.
    #[error(
        "the runner died with {exit} while it held this task; see its standard error in the worker's log"
    )]
    Died {
        /// How it ended.
        exit: Exit,
    },

    /// The child wrote something else than an answer while this was its oldest task, and was killed.
    /// A runner must keep its standard output for the protocol, and print to standard error.
    #[error("the runner wrote {line:?}, which answers no task; print to standard error instead")]
    Garbage {
        /// The first 200 bytes of what it wrote.
        line: String,
    },

    /// The task's time was up, and the child was killed.
    #[error("the task ran out of time in its runner")]
    TimedOut,

    /// The caller asked the task to stop; if it was running, the child was killed.
    #[error("the task was stopped")]
    Stopped,

    /// The child could not be started, so the task has not run.
    #[error("could not start the runner")]
    Start {
        /// Why, and whose fault that is.
        source: Arc<CommandError>,
    },

    /// The task's body is not the JSON that its content type promises, so it was not sent.
    #[error("the body is not JSON; submit it with the content type that it has")]
    Body {
        /// Where it stops to be JSON.
        source: serde_json::Error,
    },

    /// The runner's supervisor is gone, which only the end of the worker's runtime does.
    #[error("the runner was shut down with its worker")]
    Closed,
}
