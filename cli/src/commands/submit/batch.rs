//! The name of a batch, from which the ids of its tasks follow: the same line of the same batch is the same task.

use std::fmt;

use pmq_broker::TaskId;
use sha2::{Digest, Sha256};

/// A batch of tasks that may be submitted again.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    name: String,
}

impl Batch {
    /// The batch of this name.
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
        }
    }

    /// A batch of a name that nobody has used.
    pub(super) fn random() -> Self {
        Self {
            name: format!("{:016x}", fastrand::u64(..)),
        }
    }

    /// The id of a line: a UUID of version 8, made of the batch's name, the line's number and the line.
    pub(super) fn id(&self, number: u64, line: &[u8]) -> TaskId {
        let mut hash = Sha256::new();
        hash.update((self.name.len() as u64).to_le_bytes());
        hash.update(&self.name);
        hash.update(number.to_le_bytes());
        hash.update(line);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid().into()
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_follows_from_batch_number_and_line() {
        let batch = Batch::named("b");
        let id = batch.id(1, b"x");
        assert_eq!(id, Batch::named("b").id(1, b"x"));
        for other in [
            batch.id(2, b"x"),
            batch.id(1, b"y"),
            Batch::named("c").id(1, b"x"),
        ] {
            assert_ne!(id, other);
        }
        // The parts can't run into each other.
        assert_ne!(
            Batch::named("ab").id(1, b"c"),
            Batch::named("a").id(1, b"bc")
        );
        assert_eq!(id.to_string().as_bytes()[14], b'8');
    }

    /// Ids must stay the same from release to release, or a batch could not be resumed with a newer pmq.
    #[test]
    fn ids_never_change() {
        assert_eq!(
            Batch::named("b").id(1, b"x").to_string(),
            "e68463ae-e7c1-835a-a020-4c35198f1679"
        );
    }
}
