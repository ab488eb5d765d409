//! What pmq itself has against a server, on its way through what carries the client's errors alone.

use std::error::Error as _;
use std::io;
use std::sync::Arc;

use redis::RedisError;

use super::exposure::Insecurity;
use crate::error::Error;

/// Why nothing is sent to a server that could be reached.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// Others could listen to what is sent there, or use it as well.
    #[error("the broker at {at} {why}")]
    Insecure { at: String, why: Insecurity },

    /// It would not keep what is promised.
    #[error("{0}")]
    Unsuitable(String),
}

impl Refusal {
    /// The refusal that is behind an error, if one is.
    pub(super) fn of(error: &RedisError) -> Option<&Self> {
        let cause = error
            .source()?
            .downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?;
        let inner = cause.downcast_ref::<io::Error>()?.get_ref()?;
        inner.downcast_ref()
    }
}

impl From<Refusal> for RedisError {
    fn from(refusal: Refusal) -> Self {
        io::Error::other(refusal).into()
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Insecure { at, why } => Self::Insecure { at, why },
            Refusal::Unsuitable(why) => Self::Unsuitable(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_again_behind_the_clients_error() {
        let error = RedisError::from(Refusal::Unsuitable("words".into()));
        let found = Refusal::of(&error).cloned().map(Error::from);
        assert!(matches!(found, Some(Error::Unsuitable(text)) if text == "words"));
        assert!(Refusal::of(&io::Error::other("words").into()).is_none());
    }
}
