//! A small Redis Cluster on loopback, and slots that move between its primaries.

use std::time::Duration;

use redis::Connection;

use crate::redis_server::RedisServer;
use crate::wait::{eventually, eventually_or};

pub(crate) const SLOTS: usize = 16384;
const FORM_LIMIT: Duration = Duration::from_secs(60);
const MIGRATE_LIMIT_MS: u32 = 10_000;

/// Two or more primaries without replicas, which share the slots evenly.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<RedisServer>,
}

impl Cluster {
    /// Starts `primaries` nodes and returns once all of them serve the whole cluster.
    #[must_use]
    pub fn start(primaries: usize) -> Self {
        let node = || RedisServer::builder().cluster(true).start();
        let nodes: Vec<_> = std::iter::repeat_with(node).take(primaries).collect();
        for (index, node) in nodes.iter().enumerate() {
            let mut connection = node.connection();
            // Distinct epochs from the start: otherwise the nodes spend their first seconds agreeing on them.
            ask::<()>(&mut connection, &format!("SET-CONFIG-EPOCH {}", index + 1));
            let (first, last) = (
                index * SLOTS / primaries,
                (index + 1) * SLOTS / primaries - 1,
            );
            ask::<()>(&mut connection, &format!("ADDSLOTSRANGE {first} {last}"));
        }
        let cluster = Self { nodes };
        cluster.introduce();
        cluster.wait_until_formed();
        cluster
    }

    /// Each node meets each other one, which is quicker than to wait for gossip.
    fn introduce(&self) {
        for node in &self.nodes {
            let mut connection = node.connection();
            for other in &self.nodes {
                let (_, bus): (String, u16) = redis::cmd("CONFIG")
                    .arg(&["GET", "cluster-port"])
                    .query(&mut other.connection())
                    .unwrap_or_else(|error| panic!("could not read the bus port: {error}"));
                ask::<()>(
                    &mut connection,
                    &format!("MEET 127.0.0.1 {} {bus}", port(other)),
                );
            }
        }
    }

    fn wait_until_formed(&self) {
        let nodes = format!("cluster_known_nodes:{}\r", self.nodes.len());
        let info = |node: &RedisServer| ask::<String>(&mut node.connection(), "INFO");
        let formed = |info: String| info.contains("cluster_state:ok") && info.contains(&nodes);
        eventually_or(
            "the cluster forms",
            FORM_LIMIT,
            || {
                self.nodes
                    .iter()
                    .all(|node| formed(info(node)))
                    .then_some(())
            },
            || self.nodes.iter().map(info).collect::<Vec<_>>().join("\n"),
        );
    }

    /// The primaries, in the order of the slots that they had at the start.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The primaries, to be killed, stopped or restarted.
    pub fn nodes_mut(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }

    /// The address of each primary.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// How a client connects that finds the other primaries by itself.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+cluster://127.0.0.1:{}", port(&self.nodes[0]))
    }

    /// The slot of `key`, as Redis says.
    #[must_use]
    pub fn slot_of(&self, key: &str) -> u16 {
        redis::cmd("CLUSTER")
            .arg(&["KEYSLOT", key])
            .query(&mut self.nodes[0].connection())
            .unwrap_or_else(|error| panic!("could not ask for the slot of {key}: {error}"))
    }

    /// The index in [`Cluster::nodes`] of the primary that owns `slot`.
    #[must_use]
    pub fn owner_of(&self, slot: u16) -> usize {
        let owns = |node: &RedisServer| {
            owned_slots(node).any(|(first, last)| (first..=last).contains(&slot))
        };
        self.nodes
            .iter()
            .position(owns)
            .unwrap_or_else(|| panic!("nobody owns slot {slot}"))
    }

    /// Begins to move `slot` from its owner to the next primary: from now on the owner answers ASK or TRYAGAIN
    /// for keys that it does not have.
    #[must_use]
    pub fn begin_migration(&self, slot: u16) -> Migration<'_> {
        let from = self.owner_of(slot);
        let migration = Migration {
            cluster: self,
            slot,
            from,
            to: (from + 1) % self.nodes.len(),
        };
        let (source, target) = (node_id(migration.source()), node_id(migration.target()));
        migration.set_slot(migration.target(), &format!("IMPORTING {source}"));
        migration.set_slot(migration.source(), &format!("MIGRATING {target}"));
        migration
    }
}

/// A slot on its way, until [`Migration::finish`]; dropped before, it stays half-way.
#[derive(Debug)]
pub struct Migration<'a> {
    cluster: &'a Cluster,
    slot: u16,
    from: usize,
    to: usize,
}

impl<'a> Migration<'a> {
    /// The primary that gives the slot away.
    #[must_use]
    pub fn source(&self) -> &'a RedisServer {
        &self.cluster.nodes[self.from]
    }

    /// The primary that gets the slot.
    #[must_use]
    pub fn target(&self) -> &'a RedisServer {
        &self.cluster.nodes[self.to]
    }

    /// Moves one key; false if the source does not have it.
    pub fn move_key(&self, key: impl AsRef<[u8]>) -> bool {
        let answer: String = redis::cmd("MIGRATE")
            .arg("127.0.0.1")
            .arg(port(self.target()))
            .arg(key.as_ref())
            .arg(0)
            .arg(MIGRATE_LIMIT_MS)
            .query(&mut self.source().connection())
            .unwrap_or_else(|error| panic!("could not move a key of slot {}: {error}", self.slot));
        answer == "OK"
    }

    /// Moves the keys that are left, makes the target the owner, and returns once every node knows it.
    pub fn finish(self) {
        loop {
            let count_keys = format!("GETKEYSINSLOT {} 100", self.slot);
            let keys: Vec<Vec<u8>> = ask(&mut self.source().connection(), &count_keys);
            if keys.is_empty() {
                break;
            }
            for key in keys {
                self.move_key(key);
            }
        }
        let owner = format!("NODE {}", node_id(self.target()));
        self.set_slot(self.target(), &owner);
        for node in &self.cluster.nodes {
            self.set_slot(node, &owner);
        }
        // A primary that takes a slot over counts the epoch up from the newest that it has heard of: unless all have
        // heard of the last one, the next take-over may be undone.
        eventually("the nodes agree on the epoch", FORM_LIMIT, || {
            let mut epochs = self.cluster.nodes.iter().map(current_epoch);
            let first = epochs.next()?;
            epochs.all(|epoch| epoch == first).then_some(())
        });
    }

    fn set_slot(&self, node: &RedisServer, action: &str) {
        ask::<()>(
            &mut node.connection(),
            &format!("SETSLOT {} {action}", self.slot),
        );
    }
}

fn current_epoch(node: &RedisServer) -> String {
    let info: String = ask(&mut node.connection(), "INFO");
    let epoch = info
        .lines()
        .find(|line| line.starts_with("cluster_current_epoch:"));
    epoch.unwrap_or_default().to_owned()
}

fn ask<T: redis::FromRedisValue>(connection: &mut Connection, request: &str) -> T {
    redis::cmd("CLUSTER")
        .arg(request.split(' ').collect::<Vec<_>>())
        .query(connection)
        .unwrap_or_else(|error| panic!("CLUSTER {request} failed: {error}"))
}

fn node_id(node: &RedisServer) -> String {
    ask(&mut node.connection(), "MYID")
}

fn port(node: &RedisServer) -> u16 {
    node.port().expect("a cluster node listens on TCP")
}

/// The ranges of slots that `node` says are its own: the last words of its line in CLUSTER NODES.
fn owned_slots(node: &RedisServer) -> impl Iterator<Item = (u16, u16)> + use<> {
    let nodes: String = ask(&mut node.connection(), "NODES");
    let own = nodes
        .lines()
        .find(|line| line.contains("myself"))
        .unwrap_or_default();
    let ranges: Vec<_> = own.split(' ').skip(8).filter_map(range).collect();
    ranges.into_iter()
}

/// `17` or `0-5460`; a slot in migration, `[17->-...]`, is none.
fn range(word: &str) -> Option<(u16, u16)> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(node: &RedisServer, key: &str) -> redis::RedisResult<Option<String>> {
        redis::cmd("GET").arg(key).query(&mut node.connection())
    }

    fn set(node: &RedisServer, key: &str) {
        redis::cmd("SET")
            .arg(&[key, "value"])
            .exec(&mut node.connection())
            .unwrap();
    }

    #[test]
    fn shares_the_slots_and_survives_a_killed_primary() {
        let mut cluster = Cluster::start(3);
        let owners = [0, 5461, 16383].map(|slot| cluster.owner_of(slot));
        assert_eq!(owners, [0, 1, 2]);
        assert_eq!(cluster.slot_of("{123456789}x"), 12739);
        cluster.nodes_mut()[1].kill();
        cluster.nodes_mut()[1].restart();
        cluster.wait_until_formed();
    }

    #[test]
    fn a_slot_moves_key_by_key() {
        let cluster = Cluster::start(2);
        let slot = cluster.slot_of("{a}");
        let source = &cluster.nodes()[cluster.owner_of(slot)];
        set(source, "{a}moved");
        set(source, "{a}left");

        let migration = cluster.begin_migration(slot);
        assert!(migration.move_key("{a}moved") && !migration.move_key("{a}absent"));
        assert_eq!(get(source, "{a}left").unwrap().as_deref(), Some("value"));
        let error = get(source, "{a}moved").unwrap_err();
        assert_eq!(error.code(), Some("ASK"));

        let target = migration.target();
        migration.finish();
        assert_eq!(target.pid(), cluster.nodes()[cluster.owner_of(slot)].pid());
        for key in ["{a}moved", "{a}left"] {
            assert_eq!(get(target, key).unwrap().as_deref(), Some("value"));
        }
        assert_eq!(get(source, "{a}left").unwrap_err().code(), Some("MOVED"));
    }
}
