//! A small Redis Cluster on loopback: slots that move between its primaries, replicas that take over.

use std::time::Duration;

use redis::Connection;

use crate::redis_server::{Builder, RedisServer};
use crate::wait::{eventually, eventually_or};

pub(crate) const SLOTS: usize = 16384;
const FORM_LIMIT: Duration = Duration::from_secs(60);
const VIEW_LIMIT: Duration = Duration::from_millis(500);
const MIGRATE_LIMIT_MS: u32 = 10_000;

/// Two or more primaries, which share the slots evenly, each with a replica where asked for.
#[derive(Debug)]
pub struct Cluster {
    /// First those that were primaries at the start, then their replicas in the same order.
    nodes: Vec<RedisServer>,
    primaries: usize,
}

impl Cluster {
    /// Adds a primary without slots and without data, functions or replicas, and returns its index. Not for a cluster with
    /// replicas.
    pub fn add_primary(&mut self) -> usize {
        assert_eq!(self.nodes.len(), self.primaries, "replicas come last");
        let node = node().start();
        let epoch = format!("SET-CONFIG-EPOCH {}", self.nodes.len() + 1);
        ask::<()>(&mut node.connection(), &epoch);
        self.nodes.push(node);
        self.primaries += 1;
        self.introduce();
        self.wait_until_formed();
        self.primaries - 1
    }

    /// Starts `primaries` nodes without replicas, and returns once all of them serve the whole cluster.
    #[must_use]
    pub fn start(primaries: usize) -> Self {
        Self::launch((primaries, primaries), |builder| builder)
    }

    /// Starts `primaries` nodes with a replica each, which takes over about 3 s after its primary was lost. Returns once
    /// all serve the whole cluster and the replicas have its data. Takes 3 to 5 s.
    #[must_use]
    pub fn with_replicas(primaries: usize) -> Self {
        Self::with(primaries, |builder| builder)
    }

    /// The same, where each node is what `with` makes of its builder.
    #[must_use]
    pub fn with(primaries: usize, with: impl Fn(Builder) -> Builder) -> Self {
        let cluster = Self::launch((primaries, 2 * primaries), with);
        for index in 0..primaries {
            let primary = node_id(&cluster.nodes[index]);
            let replica = &cluster.nodes[primaries + index];
            ask::<()>(&mut replica.connection(), &format!("REPLICATE {primary}"));
        }
        for index in 0..cluster.nodes.len() {
            cluster.wait_until_replicated(index);
        }
        cluster.wait_until_all_know(2 * primaries);
        cluster
    }

    fn launch((primaries, nodes): (usize, usize), with: impl Fn(Builder) -> Builder) -> Self {
        let node = || with(node()).start();
        let nodes: Vec<_> = std::iter::repeat_with(node).take(nodes).collect();
        for (index, node) in nodes.iter().enumerate() {
            let mut connection = node.connection();
            // Distinct epochs from the start: otherwise the nodes spend their first seconds agreeing on them.
            ask::<()>(&mut connection, &format!("SET-CONFIG-EPOCH {}", index + 1));
            if index >= primaries {
                continue;
            }
            let (first, last) = (
                index * SLOTS / primaries,
                (index + 1) * SLOTS / primaries - 1,
            );
            ask::<()>(&mut connection, &format!("ADDSLOTSRANGE {first} {last}"));
        }
        let cluster = Self { nodes, primaries };
        cluster.introduce();
        cluster.wait_until_formed();
        cluster
    }

    /// Waits until a node has its replica, or its primary's data.
    fn wait_until_replicated(&self, index: usize) {
        let line = if index < self.primaries {
            "connected_slaves:1"
        } else {
            "master_link_status:up"
        };
        let info = || replication(&self.nodes[index]);
        eventually_or(
            "a replica has the data",
            FORM_LIMIT,
            || info().lines().any(|found| found == line).then_some(()),
            info,
        );
    }

    /// Waits until each node knows of so many, primaries with slots and replicas of them.
    fn wait_until_all_know(&self, nodes: usize) {
        let known = |node: &RedisServer| {
            let slots: Vec<Vec<redis::Value>> = ask(&mut node.connection(), "SLOTS");
            slots.iter().map(|range| range.len() - 2).sum::<usize>()
        };
        eventually("all nodes know the replicas", FORM_LIMIT, || {
            let all = self.nodes.iter().all(|node| known(node) == nodes);
            all.then_some(())
        });
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

    /// The nodes: those that were primaries at the start, in the order of their slots, then their replicas.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The nodes, to be killed, stopped or restarted.
    pub fn nodes_mut(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }

    /// The address of each node.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// How pmq connects: the address of each node that was a primary at the start.
    #[must_use]
    pub fn url(&self) -> String {
        let seeds = self.nodes[..self.primaries].iter();
        let seeds: Vec<_> = seeds
            .map(|node| format!("127.0.0.1:{}", port(node)))
            .collect();
        let url = self.nodes[0].url();
        let scheme = url.split(':').next().unwrap_or_default();
        format!("{scheme}+cluster://{}", seeds.join(","))
    }

    /// The index in [`Cluster::nodes`] of the first primary that is not among these: somebody else's.
    #[must_use]
    pub fn another_than(&self, taken: &[usize]) -> usize {
        let others = (0..self.primaries).find(|index| !taken.contains(index));
        others.unwrap_or_else(|| panic!("all primaries are taken: {taken:?}"))
    }

    /// A text of the form `PREFIX-N` whose hash tag belongs to this node, which has slots.
    #[must_use]
    pub fn name_at(&self, node: usize, prefix: &str, tag: impl Fn(&str) -> String) -> String {
        let names = (0..).map(|number| format!("{prefix}-{number}"));
        let mut names = names.take(10_000);
        let at_node = |name: &String| self.owner_of(self.slot_of(&tag(name))) == node;
        names
            .find(at_node)
            .unwrap_or_else(|| panic!("no name belongs to node {node}"))
    }

    /// Waits until a replica has taken over from the node with this index, which was killed or stopped, and all nodes
    /// that answer know it. Returns the index of the new primary.
    #[expect(clippy::must_use_candidate, reason = "many only wait")]
    pub fn wait_for_failover(&self, lost: usize) -> usize {
        let replica = (lost + self.primaries) % self.nodes.len();
        let successor = port(&self.nodes[replica]);
        eventually("a replica takes over", FORM_LIMIT, || {
            let views: Vec<_> = self.nodes.iter().filter_map(view).collect();
            let taken = |view: &Vec<Slots>| view.iter().any(|range| range.2 == successor);
            views.iter().all(taken).then_some(())
        });
        replica
    }

    /// The slot of `key`, as Redis says.
    #[must_use]
    pub fn slot_of(&self, key: &str) -> u16 {
        redis::cmd("CLUSTER")
            .arg(&["KEYSLOT", key])
            .query(&mut self.answering().connection())
            .unwrap_or_else(|error| panic!("could not ask for the slot of {key}: {error}"))
    }

    /// The index in [`Cluster::nodes`] of the primary that owns `slot`.
    #[must_use]
    pub fn owner_of(&self, slot: u16) -> usize {
        let views = self.nodes.iter().find_map(view).unwrap_or_default();
        let range = views
            .iter()
            .find(|(first, last, _)| (*first..=*last).contains(&slot));
        let owner = range.unwrap_or_else(|| panic!("nobody owns slot {slot}")).2;
        let owns = |node: &RedisServer| port(node) == owner;
        let index = self.nodes.iter().position(owns);
        index.unwrap_or_else(|| panic!("no node of ours listens on {owner}"))
    }

    /// The first node that answers.
    fn answering(&self) -> &RedisServer {
        let mut nodes = self.nodes.iter();
        let first = nodes.find(|node| view(node).is_some());
        first.expect("no node answers")
    }

    /// Begins to move `slot` from its owner to the next primary: from now on the owner answers ASK or TRYAGAIN
    /// for keys that it does not have.
    #[must_use]
    pub fn begin_migration(&self, slot: u16) -> Migration<'_> {
        let next = (self.owner_of(slot) + 1) % self.primaries;
        self.begin_migration_to(slot, next)
    }

    /// Likewise, to the primary with this index.
    #[must_use]
    pub fn begin_migration_to(&self, slot: u16, to: usize) -> Migration<'_> {
        let migration = Migration {
            cluster: self,
            slot,
            from: self.owner_of(slot),
            to,
        };
        let (source, target) = (node_id(migration.source()), node_id(migration.target()));
        migration.set_slot(migration.target(), &format!("IMPORTING {source}"));
        migration.set_slot(migration.source(), &format!("MIGRATING {target}"));
        migration
    }
}

fn node() -> Builder {
    RedisServer::builder()
        .cluster(true)
        // Replicas are ready at once, and take over however old their data is.
        .config("repl-diskless-sync-delay", "0")
        .config("cluster-replica-validity-factor", "0")
        // As pmq advises: the slots of a lost primary are no concern of the others.
        .config("cluster-require-full-coverage", "no")
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
        // Replicas hear it from their primaries.
        for node in &self.cluster.nodes[..self.cluster.primaries] {
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

/// First slot, last slot, the port of their primary.
type Slots = (u16, u16, u16);

/// Who has which slots, as `node` sees it; `None` where it does not answer within 500 ms.
fn view(node: &RedisServer) -> Option<Vec<Slots>> {
    let mut connection = node.connection_within(VIEW_LIMIT)?;
    let slots: Vec<(u16, u16, redis::Value)> = redis::cmd("CLUSTER")
        .arg("SLOTS")
        .query::<Vec<Vec<redis::Value>>>(&mut connection)
        .ok()?
        .into_iter()
        .filter_map(|range| {
            let mut parts = range.into_iter();
            let mut number = || redis::from_redis_value(parts.next()?).ok();
            Some((number()?, number()?, parts.next()?))
        })
        .collect();
    slots
        .into_iter()
        .map(|(first, last, primary)| {
            let redis::Value::Array(primary) = primary else {
                return None;
            };
            let port = redis::from_redis_value(primary.into_iter().nth(1)?).ok()?;
            Some((first, last, port))
        })
        .collect()
}

fn replication(node: &RedisServer) -> String {
    let mut info = redis::cmd("INFO");
    let text: redis::RedisResult<String> = info.arg("replication").query(&mut node.connection());
    text.unwrap_or_else(|error| panic!("INFO failed: {error}"))
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
    fn a_replica_takes_over_with_the_data_and_the_old_primary_follows_it() {
        let mut cluster = Cluster::with_replicas(3);
        let slot = cluster.slot_of("{a}");
        let lost = cluster.owner_of(slot);
        set(&cluster.nodes()[lost], "{a}key");
        cluster.nodes_mut()[lost].stop();
        let successor = cluster.wait_for_failover(lost);
        assert_eq!(cluster.owner_of(slot), successor);
        assert_eq!(
            get(&cluster.nodes()[successor], "{a}key")
                .unwrap()
                .as_deref(),
            Some("value")
        );
        cluster.nodes_mut()[lost].resume();
        eventually("the old primary follows", FORM_LIMIT, || {
            let info = replication(&cluster.nodes()[lost]);
            info.contains("role:slave").then_some(())
        });
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
