//! What an acknowledgement promises: how far a change has got when its call returns.

use std::fmt;
use std::str::FromStr;

/// How far a change of tasks or queue items has got when its call returns.
///
/// It costs a round trip between the servers for each call, in which there may be many tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// To the primary, which writes it down as its own settings say.
    #[default]
    Local,
    /// To a replica as well; where none confirms it within a second, the call is
    /// [`Error::Unconfirmed`](crate::Error::Unconfirmed).
    Replicated,
    /// To a replica, and to the disk: of both where the server can say so (from 7.2), else of a primary that writes every
    /// change before it answers (`appendfsync always`). Any other is refused.
    Strict,
}

impl Durability {
    /// All of them, the weakest first.
    pub const ALL: [Self; 3] = [Self::Local, Self::Replicated, Self::Strict];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Replicated => "replicated",
            Self::Strict => "strict",
        }
    }

    /// What may happen to a change that was acknowledged: the event, and what of the changes is lost by it.
    #[must_use]
    pub fn promises(self) -> [(&'static str, &'static str); 4] {
        let process = (
            "the primary's process is killed, and starts again",
            "nothing, with the append-only file on; up to 2 s of it with everysec while its disk is slow",
        );
        let failover = "a replica takes over from a primary that is dead";
        let isolated = "a replica takes over from a primary that is cut off";
        let power = "the power fails where the primary is";
        match self {
            Self::Local => [
                process,
                (
                    power,
                    "with appendfsync everysec the last 1 to 2 s, with always nothing",
                ),
                (failover, "what had not reached it: milliseconds"),
                (
                    isolated,
                    "all that was written to the old one since, until it is left",
                ),
            ],
            Self::Replicated => [
                process,
                (
                    power,
                    "nothing, if a replica survives elsewhere and takes over",
                ),
                (
                    failover,
                    "nothing, if the replica that confirmed takes over: certain where there is one",
                ),
                (
                    isolated,
                    "nothing that was acknowledged, if none of its replicas was cut off with it",
                ),
            ],
            Self::Strict => [
                process,
                (power, "nothing, also if it fails everywhere at once"),
                (
                    failover,
                    "nothing, if the replica that confirmed takes over: certain where there is one",
                ),
                (
                    isolated,
                    "nothing that was acknowledged, if none of its replicas was cut off with it",
                ),
            ],
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not one of the words.
#[derive(Debug, thiserror::Error)]
#[error("durability is one of local, replicated, strict")]
pub struct UnknownDurability;

impl FromStr for Durability {
    type Err = UnknownDurability;

    fn from_str(word: &str) -> Result<Self, UnknownDurability> {
        let known = Self::ALL.into_iter().find(|known| known.as_str() == word);
        known.ok_or(UnknownDurability)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_read_as_it_is_written() {
        for durability in Durability::ALL {
            assert_eq!(durability.to_string().parse().ok(), Some(durability));
        }
        assert!("always".parse::<Durability>().is_err());
    }

    #[test]
    fn each_promise_says_what_is_lost_by_the_same_events() {
        let events = |durability: Durability| durability.promises().map(|(event, _)| event);
        assert_eq!(events(Durability::Local), events(Durability::Replicated));
        assert_eq!(events(Durability::Local), events(Durability::Strict));
    }
}
