//! The name of a batch, from which the ids of its tasks follow: the same line of the same batch is the same task.

use std::fmt;

use pmq_broker::TaskId;
use pmq_broker::ids::DEAL;
use pmq_broker::slot::crc16;
use pmq_broker::task::Key;
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

    /// The id of a line: a UUID of version 8, made of the batch's name, the line's number and the line. It ends in the
    /// number of its key, or where it has none in that of each 500 lines, so that a call goes to one shard.
    pub(super) fn id(&self, number: u64, line: &[u8], key: Option<Key>) -> TaskId {
        let mut hash = Sha256::new();
        hash.update((self.name.len() as u64).to_le_bytes());
        hash.update(&self.name);
        hash.update(number.to_le_bytes());
        hash.update(line);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        let id: TaskId = uuid::Builder::from_custom_bytes(bytes).into_uuid().into();
        id.with_deal(key.map_or_else(|| self.deal(number), Key::number))
    }
}

impl Batch {
    /// Which part of the shards a line goes to. A batch begins anywhere.
    fn deal(&self, number: u64) -> u16 {
        let first = crc16(self.name.as_bytes());
        first.wrapping_add((number.saturating_sub(1) / DEAL) as u16)
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
        let id = batch.id(1, b"x", None);
        assert_eq!(id, Batch::named("b").id(1, b"x", None));
        for other in [
            batch.id(2, b"x", None),
            batch.id(1, b"y", None),
            Batch::named("c").id(1, b"x", None),
        ] {
            assert_ne!(id, other);
        }
        // The parts can't run into each other.
        assert_ne!(
            Batch::named("ab").id(1, b"c", None),
            Batch::named("a").id(1, b"bc", None)
        );
        assert_eq!(id.to_string().as_bytes()[14], b'8');
    }

    #[test]
    fn five_hundred_lines_go_together_and_those_of_a_key_always() {
        let batch = Batch::named("b");
        let shard = |number, key| batch.id(number, b"x", key).shard(4096);
        assert_eq!(shard(1, None), shard(500, None));
        assert_ne!(shard(500, None), shard(501, None));
        let key = pmq_broker::Task::command(["ls"]).with_key("k").key;
        assert_eq!(shard(1, key), shard(501, key));
    }

    /// Ids must stay the same from release to release, or a batch could not be resumed with a newer pmq.
    #[test]
    fn ids_never_change() {
        assert_eq!(
            Batch::named("b").id(1, b"x", None).to_string(),
            "e68463ae-e7c1-835a-a020-4c35198f4ce4"
        );
    }
}
