//! A small high-availability group on loopback: a primary, replicas, and the sentinels that watch them.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use redis::Connection;

use crate::daemon::Daemon;
use crate::redis_server::{Builder, RedisServer, free_port};
use crate::scratch::Scratch;
use crate::wait::{eventually, eventually_or};

const FORM_LIMIT: Duration = Duration::from_secs(60);
const REPLY_LIMIT: Duration = Duration::from_millis(500);
const SENTINELS: usize = 3;
const QUORUM: usize = 2;

/// What the sentinels call the primary.
pub const PRIMARY: &str = "mymaster";

/// A primary, two replicas and three sentinels, which fail over about 3 s after the primary was lost.
#[derive(Debug)]
pub struct SentinelGroup {
    servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
    scheme: &'static str,
}

impl SentinelGroup {
    /// Starts the group and returns once the replicas have the data and each sentinel knows all others. Takes 3 to 5 s.
    #[must_use]
    pub fn start() -> Self {
        Self::with(|builder| builder)
    }

    /// The same, where each server is what `with` makes of its builder. Where that speaks TLS, the sentinels do as well.
    #[must_use]
    pub fn with(with: impl Fn(Builder) -> Builder) -> Self {
        // Replicas are ready at once.
        let builder = || {
            let builder = RedisServer::builder().tcp(true);
            with(builder.config("repl-diskless-sync-delay", "0"))
        };
        let primary = builder().start();
        let at = format!("127.0.0.1 {}", port(&primary));
        let replica = || builder().config("replicaof", &at).start();
        let servers = vec![replica(), replica()];
        let servers: Vec<_> = std::iter::once(primary).chain(servers).collect();
        let of_server = builder();
        let tls = of_server.tls_lines();
        let group = Self {
            sentinels: (0..SENTINELS)
                .map(|_| Sentinel::start(port(&servers[0]), tls))
                .collect(),
            servers,
            scheme: if tls.is_some() { "rediss" } else { "redis" },
        };
        group.wait_until_formed();
        group
    }

    fn wait_until_formed(&self) {
        let others = SENTINELS - 1;
        let replicas = self.servers.len() - 1;
        let formed = format!(",slaves={replicas},sentinels={}", others + 1);
        eventually_or(
            "the sentinels know each other and the replicas",
            FORM_LIMIT,
            || {
                let knows = |sentinel: &Sentinel| sentinel.info().contains(&formed);
                self.sentinels.iter().all(knows).then_some(())
            },
            || self.sentinels.iter().map(Sentinel::info).collect(),
        );
        for replica in &self.servers[1..] {
            eventually("a replica has the data", FORM_LIMIT, || {
                let info = replication(replica);
                info.contains("master_link_status:up").then_some(())
            });
        }
    }

    /// The servers; the first one was the primary at the start.
    #[must_use]
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// The servers, to be killed, stopped or restarted.
    pub fn servers_mut(&mut self) -> &mut [RedisServer] {
        &mut self.servers
    }

    /// The sentinels, to be killed, stopped or resumed.
    pub fn sentinels_mut(&mut self) -> &mut [Sentinel] {
        &mut self.sentinels
    }

    /// How pmq connects: the addresses of all sentinels, and the primary's name.
    #[must_use]
    pub fn url(&self) -> String {
        let sentinels = self.sentinels.iter();
        let all: Vec<_> = sentinels
            .map(|sentinel| format!("127.0.0.1:{}", sentinel.port))
            .collect();
        format!("{}+sentinel://{}/{PRIMARY}", self.scheme, all.join(","))
    }

    /// The index in [`SentinelGroup::servers`] of the primary, as most of the sentinels say that answer.
    #[must_use]
    pub fn primary(&self) -> usize {
        eventually("the sentinels agree", FORM_LIMIT, || {
            let ports: Vec<u16> = self
                .sentinels
                .iter()
                .filter_map(Sentinel::primary)
                .collect();
            let agreed = |port: &&u16| ports.iter().filter(|other| other == port).count() >= QUORUM;
            let port_of = *ports.iter().find(agreed)?;
            self.servers
                .iter()
                .position(|server| port(server) == port_of)
        })
    }

    /// Waits until another server than this one is the primary, and says so itself; returns its index.
    #[expect(clippy::must_use_candidate, reason = "many only wait")]
    pub fn wait_for_failover(&self, lost: usize) -> usize {
        eventually("another server takes over", FORM_LIMIT, || {
            let primary = self.primary();
            let elected =
                primary != lost && replication(&self.servers[primary]).contains("role:master");
            elected.then_some(primary)
        })
    }

    /// Cuts a server off from the sentinels and the other servers. Whoever is connected to it stays so, and is answered:
    /// the old primary that a client must leave of its own accord.
    pub fn isolate(&self, server: usize) {
        let mut connection = self.servers[server].connection();
        // New connections are refused, as nobody comes from there.
        config(&mut connection, "bind", "127.0.0.254");
        let clients: String = redis::cmd("CLIENT")
            .arg("LIST")
            .query(&mut connection)
            .unwrap_or_else(|error| panic!("CLIENT LIST failed: {error}"));
        for id in clients
            .lines()
            .filter(|line| belongs_to_the_group(line))
            .filter_map(id)
        {
            let kill = redis::cmd("CLIENT")
                .arg(&["KILL", "ID", id])
                .exec(&mut connection);
            kill.unwrap_or_else(|error| panic!("CLIENT KILL failed: {error}"));
        }
    }

    /// Lets an isolated server be reached again.
    pub fn rejoin(&self, server: usize) {
        config(&mut self.servers[server].connection(), "bind", "127.0.0.1");
    }
}

fn config(connection: &mut Connection, name: &str, value: &str) {
    let set = redis::cmd("CONFIG")
        .arg(&["SET", name, value])
        .exec(connection);
    set.unwrap_or_else(|error| panic!("CONFIG SET {name} failed: {error}"));
}

/// Whether a line of CLIENT LIST is a sentinel's connection, or a replica's.
fn belongs_to_the_group(line: &str) -> bool {
    line.contains(" name=sentinel-") || line.contains(" flags=S")
}

fn id(line: &str) -> Option<&str> {
    line.strip_prefix("id=")?.split(' ').next()
}

fn replication(server: &RedisServer) -> String {
    let Some(mut connection) = server.connection_within(REPLY_LIMIT) else {
        return String::new();
    };
    let info = redis::cmd("INFO").arg("replication").query(&mut connection);
    info.unwrap_or_default()
}

fn port(server: &RedisServer) -> u16 {
    server.port().expect("it listens on TCP")
}

/// One sentinel, in a directory of its own. Drop kills it.
#[derive(Debug)]
pub struct Sentinel {
    daemon: Daemon,
    port: u16,
}

impl Sentinel {
    fn start(primary: u16, tls: Option<&str>) -> Self {
        let (files, port) = (Scratch::new(), free_port());
        let listen = match tls {
            Some(lines) => format!("{lines}tls-port {port}"),
            None => format!("port {port}"),
        };
        let file = format!(
            "{listen}\nunixsocket s\nbind 127.0.0.1\nprotected-mode no\n\
             sentinel monitor {PRIMARY} 127.0.0.1 {primary} {QUORUM}\n\
             sentinel down-after-milliseconds {PRIMARY} 2000\nsentinel failover-timeout {PRIMARY} 6000\n\
             sentinel parallel-syncs {PRIMARY} 2\n"
        );
        fs::write(files.join("sentinel.conf"), file).expect("the configuration can be written");
        Self {
            daemon: Daemon::start(files, &["sentinel.conf", "--sentinel"]),
            port,
        }
    }

    /// The TCP port on 127.0.0.1; it stays the same over restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    fn socket(&self) -> String {
        self.directory().join("s").display().to_string()
    }

    fn connection(&self) -> Option<Connection> {
        #[expect(
            clippy::disallowed_types,
            reason = "the tests' only way to a connection"
        )]
        let client = redis::Client::open(format!("redis+unix://{}", self.socket())).ok()?;
        let connection = client.get_connection_with_timeout(REPLY_LIMIT).ok()?;
        connection.set_read_timeout(Some(REPLY_LIMIT)).ok()?;
        Some(connection)
    }

    /// What it says about what it watches; empty where it does not answer.
    fn info(&self) -> String {
        let info = |mut connection| {
            redis::cmd("INFO")
                .arg("sentinel")
                .query(&mut connection)
                .ok()
        };
        self.connection().and_then(info).unwrap_or_default()
    }

    /// The port of the primary, as it says.
    fn primary(&self) -> Option<u16> {
        let address: (String, u16) = redis::cmd("SENTINEL")
            .arg(&["GET-MASTER-ADDR-BY-NAME", PRIMARY])
            .query(&mut self.connection()?)
            .ok()?;
        Some(address.1)
    }
}

impl Deref for Sentinel {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for Sentinel {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_takes_over_from_one_that_is_killed_and_it_comes_back_as_a_replica() {
        let mut group = SentinelGroup::start();
        assert_eq!(group.primary(), 0);
        group.servers_mut()[0].kill();
        let primary = group.wait_for_failover(0);
        group.servers_mut()[0].restart();
        eventually("the old primary follows", FORM_LIMIT, || {
            let info = replication(&group.servers()[0]);
            info.contains("role:slave").then_some(())
        });
        assert_eq!(group.primary(), primary);
    }

    #[test]
    fn an_isolated_primary_still_serves_whom_it_served() {
        let group = SentinelGroup::start();
        let url = group.servers()[0].url();
        #[expect(
            clippy::disallowed_types,
            reason = "as a client of the test would connect"
        )]
        let client = redis::Client::open(url).unwrap();
        let mut connection = client.get_connection().unwrap();
        group.isolate(0);
        assert!(client.get_connection().is_err());
        let _ = group.wait_for_failover(0);
        redis::cmd("SET")
            .arg(&["k", "v"])
            .exec(&mut connection)
            .unwrap();
        group.rejoin(0);
        eventually("it is made a replica", FORM_LIMIT, || {
            let info = replication(&group.servers()[0]);
            info.contains("role:slave").then_some(())
        });
    }
}
