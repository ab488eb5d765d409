//! What can go wrong at an end of a pipe.

use bytes::Bytes;

use super::MAX_MESSAGE;
use crate::error::Error;

/// Why a message was not sent. In Python these are `BrokenPipeError`, `OSError` and `ValueError`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Nobody reads any more: all who held the other end have closed it or died. In Python this is `BrokenPipeError`.
    #[error("nobody holds the other end of the pipe any more")]
    Closed,

    /// This end was closed here. In Python this is `OSError('handle is closed')`.
    #[error("handle is closed")]
    HandleClosed,

    /// The message is longer than 64 MiB. Nothing was sent.
    #[error("a message of {size} bytes is longer than {MAX_MESSAGE}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },

    /// The message has no JSON form. Nothing was sent.
    #[error("the message has no JSON form")]
    Encode(#[source] serde_json::Error),

    /// The broker failed; whether the message was sent is unknown.
    #[error(transparent)]
    Broker(#[from] Error),
}

/// Why no message was received. In Python these are `EOFError`, `OSError` and `BufferTooShort`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// All is read, and all who held the other end have closed it or died. In Python this is `EOFError`.
    #[error("the pipe has ended: nobody holds its other end any more")]
    Eof,

    /// This end was closed here. In Python this is `OSError('handle is closed')`.
    #[error("handle is closed")]
    HandleClosed,

    /// The message is longer than the caller allows, and this end is closed by that. In Python this is
    /// `OSError('bad message length')`.
    #[error("bad message length: {size} bytes, and the limit is {limit}")]
    BadLength {
        /// Its length in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },

    /// The message does not fit into the caller's buffer; here it is. In Python this is `BufferTooShort`.
    #[error("the buffer is too short for a message of {} bytes", .0.len())]
    BufferTooShort(Bytes),

    /// The message is read, and not of the type that this end receives.
    #[error("the message is not of the expected type")]
    Decode(#[source] serde_json::Error),

    /// The broker failed. No message is lost by that.
    #[error(transparent)]
    Broker(#[from] Error),
}

impl SendError {
    /// What to do about it, in one sentence, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Closed => Some("stop sending; who shall go on reading needs a new pipe"),
            Self::HandleClosed => Some("share an end before it is closed, or keep it open"),
            Self::TooLarge { .. } => {
                Some("cut it into several messages, or put it into a file and send its name")
            }
            Self::Encode(_) => Some("send the message as bytes"),
            Self::Broker(error) => error.hint(),
        }
    }
}

impl RecvError {
    /// What to do about it, in one sentence, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Eof => None,
            Self::HandleClosed => Some("share an end before it is closed, or keep it open"),
            Self::BadLength { .. } => Some("allow longer messages, or send shorter ones"),
            Self::BufferTooShort(_) => Some("the error holds the whole message; use that"),
            Self::Decode(_) => {
                Some("give both ends the same type, or receive the message as bytes")
            }
            Self::Broker(error) => error.hint(),
        }
    }
}
