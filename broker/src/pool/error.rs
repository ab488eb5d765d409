//! What can go wrong with a pool, and what to do about it.

use std::sync::Arc;

use crate::error::Error;

/// Why a call of a pool failed. [`PoolError::hint`] says what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// A pool of no processes was asked for. In Python this is a `ValueError`.
    #[error("the number of processes must be at least 1")]
    NoProcesses,

    /// Processes that end before their first chunk were asked for.
    #[error("max_tasks_per_child must be at least 1")]
    NoTasksPerChild,

    /// Chunks of no items were asked for.
    #[error("the chunksize must be at least 1")]
    BadChunksize,

    /// The pool was closed or terminated before the call.
    #[error("pool not running")]
    Closed,

    /// `join` came before `close` or `terminate`.
    #[error("pool is still running")]
    StillRunning,

    /// The pool was terminated before the result was there.
    #[error("the pool was terminated before the result was there")]
    Terminated,

    /// The result is not there yet.
    #[error("the result is not ready")]
    NotReady,

    /// The result did not come in time; it may still come.
    #[error("no result in time")]
    Timeout,

    /// The handler failed for an item.
    #[error("item {index} failed: {message}")]
    Task {
        /// Which item of the input, from 0.
        index: usize,
        /// What the handler said.
        message: String,
    },

    /// The workers that ran a chunk died, again and again.
    #[error("item {index} was lost: {message}")]
    WorkerLost {
        /// The first item of the chunk, from 0.
        index: usize,
        /// What the broker says about it.
        message: String,
    },

    /// Somebody cancelled the chunk of an item.
    #[error("item {index} was cancelled")]
    Cancelled {
        /// The first item of the chunk, from 0.
        index: usize,
    },

    /// An argument has no JSON form.
    #[error("item {index} cannot be sent: {message}")]
    Argument {
        /// Which item of the input, from 0.
        index: usize,
        /// Why.
        message: String,
    },

    /// A result is not of the task's type. In Python this is near to `MaybeEncodingError`.
    #[error("the result of item {index} does not fit: {message}")]
    Result {
        /// Which item of the input, from 0.
        index: usize,
        /// Why.
        message: String,
    },

    /// The initializer failed several times in a row, so the pool was given up.
    #[error("the initializer failed: {message}")]
    Initializer {
        /// What it said last.
        message: String,
    },

    /// So many workers in a row died before any chunk of theirs was done, so the pool, which has an initializer, was
    /// given up. Python starts workers for ever.
    #[error("{workers} workers in a row died in the initializer, or in their first chunk")]
    InitializerLost {
        /// How many had the last chunk.
        workers: u32,
    },

    /// The pool's own worker processes could not be kept running, so the pool was given up.
    #[error("the pool's worker processes do not run: {message}")]
    Workers {
        /// What happened.
        message: String,
    },

    /// The program that serves a local pool has no handler of this name.
    #[error("this program has no handler for the task '{name}'")]
    UnknownTask {
        /// The task.
        name: String,
    },

    /// This process was cut off for longer than the pool's lease, so its tasks were dropped.
    #[error("the pool's lease ended")]
    LeaseLost,

    /// The broker refused a call.
    #[error(transparent)]
    Broker(Arc<Error>),
}

impl From<Error> for PoolError {
    fn from(error: Error) -> Self {
        Self::Broker(Arc::new(error))
    }
}

impl PoolError {
    /// What to do about it, in one sentence, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Closed => "open a new pool; after `close` and `terminate` it takes no more work",
            Self::StillRunning => "call `close` or `terminate` before `join`",
            Self::NotReady => "call `wait` first, or ask `ready`",
            Self::WorkerLost { .. } => {
                "does the task take its worker down (memory, abort)? the logs of the workers say more"
            }
            Self::InitializerLost { .. } => {
                "does the initializer take its process down (memory, abort)? see the standard error of the workers"
            }
            Self::Initializer { .. } | Self::Workers { .. } => {
                "see the standard error of the workers, mend it and open a new pool"
            }
            Self::UnknownTask { .. } => "register it with `handle` before `run`",
            Self::LeaseLost => "open a new pool once the broker can be reached",
            Self::Argument { .. } | Self::Result { .. } => {
                "is the type of the task the same in the producer and its workers?"
            }
            Self::Broker(error) => return error.hint(),
            _ => return None,
        })
    }
}
