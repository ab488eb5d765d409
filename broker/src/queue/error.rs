//! Why a `put` or a `get` did not do what it was asked for.

use std::fmt;

use bytes::Bytes;

use crate::error::Error;

/// Why items were not put. It gives them back; of a `put_many`, those that were not put. In Python these are
/// `queue.Full` and `ValueError`.
#[derive(thiserror::Error)]
pub enum PutError<T> {
    /// There was no room, now or in time. In Python this is `queue.Full`.
    #[error("the queue is full")]
    Full(T),

    /// This process has closed the queue. In Python this is `ValueError`.
    #[error("the queue is closed")]
    Closed(T),

    /// The item has no form in the queue's format. Nothing was sent.
    #[error("the item can't be serialised")]
    Unserializable {
        /// What was to be put.
        item: T,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },

    /// The broker could not be reached, or refused. Where it did not answer, the item may be in the queue all the same.
    #[error("could not put")]
    Broker {
        /// What was to be put.
        item: T,
        /// The cause.
        #[source]
        source: Error,
    },
}

impl<T> PutError<T> {
    /// What was to be put.
    pub fn into_item(self) -> T {
        match self {
            Self::Full(item)
            | Self::Closed(item)
            | Self::Unserializable { item, .. }
            | Self::Broker { item, .. } => item,
        }
    }

    /// The same about another item.
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> PutError<U> {
        match self {
            Self::Full(item) => PutError::Full(change(item)),
            Self::Closed(item) => PutError::Closed(change(item)),
            Self::Unserializable { item, source } => PutError::Unserializable {
                item: change(item),
                source,
            },
            Self::Broker { item, source } => PutError::Broker {
                item: change(item),
                source,
            },
        }
    }
}

/// Without the item, which need not be printable.
impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full(..)"),
            Self::Closed(_) => f.write_str("Closed(..)"),
            Self::Unserializable { source, .. } => write!(f, "Unserializable({source:?})"),
            Self::Broker { source, .. } => write!(f, "Broker({source:?})"),
        }
    }
}

/// Why nothing was got. In Python these are `queue.Empty` and `ValueError`.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// There was no item, now or in time. In Python this is `queue.Empty`.
    #[error("the queue is empty")]
    Empty,

    /// This process has closed the queue. In Python this is `ValueError`.
    #[error("the queue is closed")]
    Closed,

    /// An item is not of the queue's type. It is gone from the queue, and so is all that the call got with it.
    #[error("an item is not of the queue's type")]
    Unreadable {
        /// All that the call got, oldest first.
        items: Vec<Bytes>,
        /// What is wrong with the first that can't be read.
        #[source]
        source: serde_json::Error,
    },

    /// The broker could not be reached, or refused.
    #[error(transparent)]
    Broker(#[from] Error),
}
