//! Every key in Redis. Keys are made here and nowhere else.

use crate::ids::{Name, TaskId};
use crate::slot;

/// The fixed parts of a shard, in the order in which each function of the task system gets them.
const PARTS: [&str; 19] = [
    "meta",
    "tasks",
    "running",
    "scheduled",
    "workers",
    "claims",
    "attempts",
    "dead",
    "errors",
    "cancels",
    "watchers",
    "wake",
    "wake.room",
    "suspects",
    "holes",
    "names",
    "logs",
    "log.sizes",
    "started",
];
const PRIORITIES: usize = 10;
/// A key that never exists, declared last: while a slot moves, Redis refuses a call with a missing key before it
/// begins, which it otherwise would break off in its middle as soon as a key that the call emptied is gone.
const ABSENT: &str = "absent";

/// The keys of one shard of a task queue. They share a hash tag, so they live in one slot.
#[derive(Clone, Debug)]
pub struct ShardKeys {
    prefix: String,
    fixed: Vec<String>,
}

impl ShardKeys {
    /// The keys of shard 0, which every queue has.
    #[must_use]
    pub fn new(namespace: &Name, queue: &Name) -> Self {
        Self::tagged(namespace, &format!("{queue}/0"))
    }

    /// The keys of all shards of a queue that has so many, by their numbers.
    #[must_use]
    pub fn all(namespace: &Name, queue: &Name, shards: u16) -> Vec<Self> {
        let tags = slot::tags(queue.as_str(), shards.into());
        tags.iter()
            .map(|tag| Self::tagged(namespace, tag))
            .collect()
    }

    fn tagged(namespace: &Name, tag: &str) -> Self {
        let prefix = format!("{namespace}:{{{tag}}}:");
        let ready = (0..PRIORITIES).map(|p| format!("{prefix}ready:{p}"));
        let fixed = PARTS
            .iter()
            .map(|part| format!("{prefix}{part}"))
            .chain(ready)
            .chain([format!("{prefix}{ABSENT}")])
            .collect();
        Self { prefix, fixed }
    }

    /// What each function gets as its KEYS.
    #[must_use]
    pub fn fixed(&self) -> &[String] {
        &self.fixed
    }

    /// The hash of the tasks that workers hold.
    #[must_use]
    pub fn running(&self) -> String {
        self.part("running")
    }

    /// The leases of workers and clients.
    #[must_use]
    pub fn workers(&self) -> String {
        self.part("workers")
    }

    /// The list of wake tokens for workers.
    #[must_use]
    pub fn wake(&self) -> String {
        self.part("wake")
    }

    /// The list of wake tokens of the whole queue, as its function `wake` gets it; shard 0 has it, on a Redis Cluster.
    #[must_use]
    pub fn wake_all(&self) -> [String; 2] {
        [self.part("wake.all"), self.part(ABSENT)]
    }

    /// The list of wake tokens for producers that wait for room.
    #[must_use]
    pub fn room(&self) -> String {
        self.part("wake.room")
    }

    /// The list of wake tokens for consumers of a completion queue.
    #[must_use]
    pub fn wake_done(&self, name: &Name) -> String {
        self.part(&format!("wake.done:{name}"))
    }

    /// A completion queue.
    #[must_use]
    pub fn done(&self, name: &Name) -> String {
        self.part(&format!("done:{name}"))
    }

    /// A bucket of records of ended tasks.
    #[must_use]
    pub fn results(&self, bucket: &str) -> String {
        self.part(&format!("results:{bucket}"))
    }

    /// The tasks that have a log.
    #[must_use]
    pub fn logs(&self) -> String {
        self.part("logs")
    }

    /// The log of a process.
    #[must_use]
    pub fn log(&self, id: TaskId) -> String {
        self.part(&format!("log:{id}"))
    }

    /// The channel on which the ends of watched tasks are published.
    #[must_use]
    pub fn ended(&self) -> String {
        self.part("ended")
    }

    /// The channel on which workers are told to look for stop orders.
    #[must_use]
    pub fn stop(&self) -> String {
        self.part("stop")
    }

    fn part(&self, part: &str) -> String {
        format!("{}{part}", self.prefix)
    }
}

/// A key of the same shard or object as `key`, which the function `mark` writes.
#[must_use]
pub fn mark_beside(key: &[u8]) -> String {
    let prefix = key.rsplitn(2, |byte| *byte == b':').nth(1).unwrap_or(key);
    format!("{}:mark", String::from_utf8_lossy(prefix))
}

/// A kind of object: a word of multiprocessing, and the parts of such an object.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The word, which is part of its keys.
    pub word: &'static str,
    /// Its parts, in the order in which each function of the kind gets them: meta, members and log first.
    pub parts: &'static [&'static str],
}

/// The keys of an object. They share the hash tag `{name}`, so they live in one slot.
#[derive(Clone, Debug)]
pub struct ObjectKeys(Vec<String>);

impl ObjectKeys {
    /// The keys of the object of this kind and name.
    #[must_use]
    pub fn new(namespace: &Name, kind: Kind, name: &Name) -> Self {
        let parts = kind.parts.iter().chain([&ABSENT]);
        let word = kind.word;
        Self(
            parts
                .map(|part| format!("{namespace}:{word}:{{{name}}}:{part}"))
                .collect(),
        )
    }

    /// What each function of the kind gets as its KEYS.
    #[must_use]
    pub fn fixed(&self) -> &[String] {
        &self.0
    }
}

/// The channel on which a process hears what it waits for; the functions make it likewise.
#[must_use]
pub fn client_channel(namespace: &Name, client: &str) -> String {
    format!("{namespace}:client:{client}")
}

/// The keys of a namespace's fleet: which workers are up, which queues there are.
#[derive(Clone, Debug)]
pub struct FleetKeys {
    /// ZSET of incarnations by deadline (ms), then HASH of what they say about themselves.
    pub presence: [String; 2],
    /// SET of the names of task queues.
    pub queues: String,
}

impl FleetKeys {
    /// The keys of a namespace.
    #[must_use]
    pub fn new(namespace: &Name) -> Self {
        let prefix = format!("{namespace}:fleet:{{workers}}:");
        Self {
            presence: [format!("{prefix}leases"), format!("{prefix}about")],
            queues: format!("{prefix}queues"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_shard_share_its_hash_tag() {
        let keys = ShardKeys::new(&Name::new("pmq").unwrap(), &Name::new("mail.fast").unwrap());
        assert_eq!(keys.fixed().len(), 30);
        assert!(
            keys.fixed()
                .iter()
                .all(|key| key.starts_with("pmq:{mail.fast/0}:"))
        );
        assert_eq!(keys.fixed()[19], "pmq:{mail.fast/0}:ready:0");
    }

    #[test]
    fn an_object_and_a_task_queue_of_one_name_share_no_key() {
        let (namespace, name) = (Name::new("pmq").unwrap(), Name::new("fruit").unwrap());
        let kind = Kind {
            word: "queue",
            parts: &["meta", "members", "log"],
        };
        let keys = ObjectKeys::new(&namespace, kind, &name);
        assert_eq!(keys.fixed()[0], "pmq:queue:{fruit}:meta");
        assert_eq!(keys.fixed()[3], "pmq:queue:{fruit}:absent");
        assert_eq!(
            mark_beside(keys.fixed()[0].as_bytes()),
            "pmq:queue:{fruit}:mark"
        );
    }
}
