//! Names and numbers: ids of tasks, incarnations of workers and clients, names of queues.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::Error;

/// So many ids that a process makes one after the other have the same deal, and thus the same shard: as many as one call
/// takes, so that tasks that are submitted in bulk go round the shards call by call.
pub const DEAL: u64 = 500;

/// The deal of the next id. A process begins anywhere.
fn next_deal() -> u16 {
    static NEXT: LazyLock<AtomicU64> =
        LazyLock::new(|| AtomicU64::new(u64::from(fastrand::u16(..)) * DEAL));
    (NEXT.fetch_add(1, Ordering::Relaxed) / DEAL) as u16
}

/// The id of a task: any UUID. pmq makes version 7, which begins with the time.
///
/// Its last two bytes are its deal: that number modulo the number of the queue's shards is the task's shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(Uuid);

impl TaskId {
    /// A new id, later than all that this process made before.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7()).with_deal(next_deal())
    }

    /// The 16 bytes that stand in Redis.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id with these bytes, or `None` where they are not 16.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().map(Self)
    }

    /// The same id with another deal.
    #[must_use]
    pub fn with_deal(self, deal: u16) -> Self {
        let mut bytes = *self.as_bytes();
        bytes[14..].copy_from_slice(&deal.to_be_bytes());
        Self(Uuid::from_bytes(bytes))
    }

    /// Which shard of its queue the task is on, in a queue of so many shards: its last two bytes modulo that.
    #[must_use]
    pub fn shard(&self, shards: usize) -> usize {
        usize::from(self.deal()) % shards.max(1)
    }

    pub(crate) fn deal(&self) -> u16 {
        let bytes = self.as_bytes();
        u16::from_be_bytes([bytes[14], bytes[15]])
    }

    /// When the id was made, in ms since the epoch; `None` where its version does not tell.
    #[must_use]
    pub fn made_ms(&self) -> Option<u64> {
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        (self.0.get_version_num() == 7).then_some(seconds * 1000 + u64::from(nanos / 1_000_000))
    }
}

impl Default for TaskId {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Uuid> for TaskId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TaskId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Uuid::try_parse(text).map(Self).map_err(|_| Error::BadId {
            text: text.chars().take(80).collect(),
        })
    }
}

/// One life of a worker or a client. Whoever lost its lease goes on under a new one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(Uuid);

impl Incarnation {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The 16 bytes that stand in Redis.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The incarnation with these bytes, or `None` where they are not 16.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().map(Self)
    }
}

impl Default for Incarnation {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// The name of a queue, a completion queue or a namespace: 1 to 64 of `a-z 0-9 . _ -`, the first a letter or a digit.
///
/// Names become parts of keys, so nothing outside this grammar may pass.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Checks a name.
    pub fn new(text: impl Into<String>) -> Result<Self, Error> {
        let text = text.into();
        let mut bytes = text.bytes();
        let first = bytes
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let rest =
            bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
        if first && rest && text.len() <= 64 {
            Ok(Self(text))
        } else {
            Err(Error::BadName {
                text: text.chars().take(80).collect(),
            })
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl TryFrom<String> for Name {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_keeps_to_its_grammar() {
        for good in ["default", "a", "0", "map-1.x_y", &"a".repeat(64)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "A",
            "-a",
            ".a",
            "a/b",
            "a{b",
            "a:b",
            "a b",
            "ä",
            &"a".repeat(65),
        ] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_of_pmq_tells_when_it_was_made() {
        let id = TaskId::new();
        assert!(id.made_ms().is_some_and(|ms| ms > 1_700_000_000_000));
        assert_eq!(
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
                .parse::<TaskId>()
                .unwrap()
                .made_ms(),
            None
        );
    }

    #[test]
    fn ids_are_dealt_to_the_shards_by_five_hundred_and_stay_in_order() {
        let ids: Vec<TaskId> = (0..5000).map(|_| TaskId::new()).collect();
        assert!(ids.is_sorted());
        let turns = ids.chunk_by(|a, b| a.shard(7) == b.shard(7));
        let turns: Vec<(usize, usize)> = turns.map(|ids| (ids[0].shard(7), ids.len())).collect();
        assert!(turns.len() >= 10);
        // Other tests of this process make ids as well.
        assert!(turns.iter().all(|(_, ids)| *ids <= DEAL as usize));
    }

    proptest! {
        #[test]
        fn an_id_survives_its_text(bytes: [u8; 16]) {
            let id = TaskId::from_slice(&bytes).unwrap();
            prop_assert_eq!(id, id.to_string().parse().unwrap());
        }
    }
}
