//! Where a run takes place: real servers, alone, behind sentinels or as a cluster.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use pmq_broker::keys::ShardKeys;
use pmq_tests::{Cluster, RedisServer, SentinelGroup, eventually};
use redis::Connection;

use crate::role::name;

/// The only task queue of a cluster's run.
const QUEUE: &str = "q";
/// Where the list of the usual priority stands among a shard's keys.
pub(super) const USUAL_LIST: usize = 24;

/// Whom the processes are on a server that knows its users.
pub(super) const USER: &str = "fleet";

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const REJOIN_LIMIT: Duration = Duration::from_secs(60);

/// How a server keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// In memory alone.
    None,
    /// Synchronised about every second.
    Everysec,
    /// Synchronised before each answer.
    Always,
    /// In memory, and in that of two replicas, with sentinels.
    Sentinels,
    /// In memory, and in that of a replica, as a cluster of three.
    Cluster,
}

impl Durability {
    /// Its name in the report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "no AOF",
            Self::Everysec => "AOF everysec",
            Self::Always => "AOF always",
            Self::Sentinels => "replicas, Sentinel",
            Self::Cluster => "replicas, Cluster",
        }
    }
}

enum Store {
    Single(RedisServer),
    Sentinels(SentinelGroup),
    Cluster(Cluster),
}

/// The servers and the directory of the histories.
pub struct Site {
    store: Store,
    /// The server that has the task queue, or had it when it was last looked for.
    primary: usize,
    /// Whether the processes are a user of the server's.
    has_user: bool,
    /// Where histories go.
    pub directory: PathBuf,
    /// Whether that server answers now, as far as the faults go.
    pub up: bool,
    connection: Option<Connection>,
}

impl Site {
    /// Starts the servers.
    pub fn open(durability: Durability, directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)
            .context("could not make the directory of the histories")?;
        let store = match durability {
            Durability::Sentinels => Store::Sentinels(SentinelGroup::start()),
            Durability::Cluster => Store::Cluster(Cluster::with_replicas(3)),
            _ => Store::Single(alone(durability)),
        };
        let directory = directory.to_owned();
        let mut site = Self {
            store,
            primary: 0,
            has_user: false,
            directory,
            up: true,
            connection: None,
        };
        site.find_primary();
        Ok(site)
    }

    /// Makes the user who all processes are from now on, with all rights.
    pub fn make_user(&mut self) {
        let password = format!(">{USER}");
        let mut command = redis::cmd("ACL");
        command.arg(&[
            "SETUSER", USER, "reset", "on", &password, "~*", "&*", "+@all",
        ]);
        let _: Option<redis::Value> = self.ask(&command);
        self.has_user = true;
    }

    /// How clients reach it.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.store {
            Store::Single(server) if self.has_user => {
                format!("{}?user={USER}&pass={USER}", server.url())
            }
            Store::Single(server) => server.url(),
            Store::Sentinels(group) => group.url(),
            Store::Cluster(cluster) => cluster.url(),
        }
    }

    /// Whether there is one server alone.
    #[must_use]
    pub fn is_single(&self) -> bool {
        matches!(self.store, Store::Single(_))
    }

    /// The server that has the task queue.
    #[must_use]
    pub fn server(&self) -> &RedisServer {
        match &self.store {
            Store::Single(server) => server,
            Store::Sentinels(group) => &group.servers()[self.primary],
            Store::Cluster(cluster) => &cluster.nodes()[self.primary],
        }
    }

    /// The same, to be killed, stopped or started again.
    pub fn server_mut(&mut self) -> &mut RedisServer {
        match &mut self.store {
            Store::Single(server) => server,
            Store::Sentinels(group) => &mut group.servers_mut()[self.primary],
            Store::Cluster(cluster) => &mut cluster.nodes_mut()[self.primary],
        }
    }

    /// Cuts the primary off from its replicas and sentinels, or lets it be reached again.
    pub fn isolate(&self, isolated: bool) {
        if let Store::Sentinels(group) = &self.store {
            if isolated {
                group.isolate(self.primary);
            } else {
                group.rejoin(self.primary);
            }
        }
    }

    /// Waits until another server has taken over from the primary.
    pub fn wait_for_failover(&self) {
        match &self.store {
            Store::Single(_) => {}
            Store::Sentinels(group) => drop(group.wait_for_failover(self.primary)),
            Store::Cluster(cluster) => drop(cluster.wait_for_failover(self.primary)),
        }
    }

    /// Waits until the old primary is a replica: until then clients may still find it, and what it takes is lost.
    pub fn wait_for_rejoin(&self) {
        if self.is_single() {
            return;
        }
        eventually("the old primary becomes a replica", REJOIN_LIMIT, || {
            let mut connection = connect(self.server())?;
            let role: redis::Value = redis::cmd("ROLE").query(&mut connection).ok()?;
            format!("{role:?}").contains("slave").then_some(())
        });
    }

    /// Begins to move the slot of the task queue to the next primary: its first list is there, the rest is not.
    pub fn begin_move(&mut self) {
        if let Store::Cluster(cluster) = &self.store {
            let keys = ShardKeys::new(&name("pmq"), &name(QUEUE));
            cluster
                .begin_migration(cluster.slot_of(&keys.running()))
                .move_key(&keys.fixed()[USUAL_LIST]);
        }
    }

    /// Moves the rest.
    pub fn finish_move(&mut self) {
        if let Store::Cluster(cluster) = &self.store {
            cluster
                .begin_migration(cluster.slot_of(&queue_key()))
                .finish();
        }
        self.find_primary();
    }

    /// Loads a function library into every server that takes writes; false where none did.
    #[must_use]
    pub fn load(&self, source: &str) -> bool {
        let servers = match &self.store {
            Store::Single(server) => std::slice::from_ref(server),
            Store::Sentinels(group) => group.servers(),
            Store::Cluster(cluster) => cluster.nodes(),
        };
        let loads = servers.iter().filter(|server| {
            let loaded = connect(server).map(|mut connection| {
                let mut command = redis::cmd("FUNCTION");
                command
                    .arg("LOAD")
                    .arg(source)
                    .query::<String>(&mut connection)
            });
            loaded.is_some_and(|loaded| loaded.is_ok())
        });
        loads.count() > 0
    }

    /// Looks for the server that has the task queue.
    pub fn find_primary(&mut self) {
        self.primary = match &self.store {
            Store::Single(_) => 0,
            Store::Sentinels(group) => group.primary(),
            Store::Cluster(cluster) => cluster.owner_of(cluster.slot_of(&queue_key())),
        };
        self.connection = None;
    }

    /// Asks that server itself, past all networks; `None` where it is down or does not answer.
    pub fn ask<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> Option<T> {
        if !self.up {
            self.connection = None;
            return None;
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(self.server())?,
        };
        let answer = command.query(&mut connection).ok()?;
        self.connection = Some(connection);
        Some(answer)
    }
}

/// A connection past all networks; `None` where the server is busy with changing its role.
fn connect(server: &RedisServer) -> Option<Connection> {
    #[expect(
        clippy::disallowed_types,
        reason = "the fixture fails where this may be tried again"
    )]
    let client = redis::Client::open(server.url()).ok()?;
    client.get_connection_with_timeout(CONNECT_LIMIT).ok()
}

fn alone(durability: Durability) -> RedisServer {
    let fsync = if durability == Durability::Always {
        "always"
    } else {
        "everysec"
    };
    RedisServer::builder()
        .aof(durability != Durability::None)
        .config("appendfsync", fsync)
        .config("maxclients", "20000")
        .start()
}

fn queue_key() -> String {
    ShardKeys::new(&name("pmq"), &name(QUEUE)).running()
}
