//! The body of a task: what its run shall do. And the hash by which it is told from another.

use std::hash::Hasher;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a run does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Body {
    /// How long it takes, in ms.
    pub(super) ms: u64,
    /// In how many of its first attempts it fails.
    pub(super) fails: u16,
    /// In how many of its first attempts its worker dies of it.
    pub(super) poison: u16,
    /// Bytes that only have to be carried.
    pub(super) ballast: String,
}

impl Body {
    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self)
            .expect("a body is plain data")
            .into()
    }
}

/// A hash that is the same in all processes of one build.
#[expect(
    deprecated,
    reason = "the hasher with fixed keys that std has; nothing depends on its strength"
)]
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::SipHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
