//! The one broker of this test process, for tests that keep to names of their own.
//!
//! It is a single server, unless `PMQ_TEST_TOPOLOGY` says `cluster` or `sentinel`: then the same tests run on a Redis
//! Cluster, or on a primary that sentinels look after.

use std::sync::LazyLock;

use redis::{Connection, ConnectionLike, RedisError, RedisResult, Value};

use crate::cluster::{Cluster, SLOTS};
use crate::redis_server::RedisServer;
use crate::sentinel::SentinelGroup;

/// Which broker [`shared`] is; a single server unless it is set.
pub const TOPOLOGY: &str = "PMQ_TEST_TOPOLOGY";
const PRIMARIES: usize = 3;

static SHARED: LazyLock<Shared> = LazyLock::new(Shared::start);

/// The shared broker.
#[must_use]
pub fn shared() -> &'static Shared {
    &SHARED
}

/// Something to connect to, with pmq or past it.
pub trait Redis {
    /// How a client connects.
    fn url(&self) -> String;

    /// A connection for a test that looks at keys, or changes them.
    fn raw(&self) -> Raw;
}

impl Redis for RedisServer {
    fn url(&self) -> String {
        RedisServer::url(self)
    }

    fn raw(&self) -> Raw {
        Raw::One(self.connection())
    }
}

/// A broker that all tests share.
pub enum Shared {
    /// The single server that [`RedisServer::shared`] is.
    Single,
    /// A Redis Cluster.
    Cluster(Cluster),
    /// A primary, its replicas and their sentinels.
    Sentinel(SentinelGroup),
}

impl Shared {
    fn start() -> Self {
        match std::env::var(TOPOLOGY).as_deref() {
            Err(_) | Ok("single") => Self::Single,
            Ok("cluster") => Self::Cluster(Cluster::start(PRIMARIES)),
            Ok("sentinel") => Self::Sentinel(SentinelGroup::start()),
            Ok(other) => panic!("{TOPOLOGY} is single, cluster or sentinel, not {other}"),
        }
    }
}

impl Redis for Shared {
    fn url(&self) -> String {
        match self {
            Self::Single => RedisServer::shared().url(),
            Self::Cluster(cluster) => cluster.url(),
            Self::Sentinel(group) => group.url(),
        }
    }

    fn raw(&self) -> Raw {
        match self {
            Self::Single => RedisServer::shared().raw(),
            Self::Sentinel(group) => group.servers()[group.primary()].raw(),
            Self::Cluster(cluster) => Raw::Cluster(
                cluster
                    .nodes()
                    .iter()
                    .map(RedisServer::connection)
                    .collect(),
            ),
        }
    }
}

/// A connection to one server, or to each primary of a cluster whose slots stay where they are.
pub enum Raw {
    /// To one server.
    One(Connection),
    /// To each primary, in the order of their slots.
    Cluster(Vec<Connection>),
}

impl Raw {
    /// Where a command goes; a cluster's answer to KEYS is that of all its primaries.
    fn send(
        &mut self,
        packed: &[u8],
        send: impl Fn(&mut Connection) -> RedisResult<Value>,
    ) -> RedisResult<Value> {
        let nodes = match self {
            Self::One(connection) => return send(connection),
            Self::Cluster(nodes) => nodes,
        };
        let words = words(packed)?;
        let key = match words[0].to_ascii_uppercase().as_str() {
            "KEYS" => {
                let mut found = Vec::new();
                for node in nodes {
                    if let Value::Array(keys) = send(node)? {
                        found.extend(keys);
                    }
                }
                return Ok(Value::Array(found));
            }
            "EVAL" | "FCALL" => &words[3],
            "PUBLISH" => return send(&mut nodes[0]),
            _ => &words[1],
        };
        let slot: usize = redis::cmd("CLUSTER")
            .arg(&["KEYSLOT", key])
            .query(&mut nodes[0])?;
        let owner = (slot + 1) * nodes.len();
        send(&mut nodes[owner.div_ceil(SLOTS) - 1])
    }
}

/// The command's words; what is no text in them does not matter here.
fn words(packed: &[u8]) -> RedisResult<Vec<String>> {
    let Value::Array(words) = redis::parse_redis_value(packed)? else {
        return Err(RedisError::from((redis::ErrorKind::Client, "no command")));
    };
    let text = |word| match word {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        _ => String::new(),
    };
    Ok(words.into_iter().map(text).collect())
}

impl ConnectionLike for Raw {
    fn req_packed_command(&mut self, packed: &[u8]) -> RedisResult<Value> {
        self.send(packed, |node| node.req_packed_command(packed))
    }

    /// Pipelines are for one server, or for one key: they go where their first command goes.
    fn req_packed_commands(
        &mut self,
        packed: &[u8],
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        let answers = self.send(packed, |node| {
            node.req_packed_commands(packed, offset, count)
                .map(Value::Array)
        })?;
        match answers {
            Value::Array(answers) => Ok(answers),
            _ => Ok(Vec::new()),
        }
    }

    fn get_db(&self) -> i64 {
        0
    }

    fn check_connection(&mut self) -> bool {
        match self {
            Self::One(connection) => connection.check_connection(),
            Self::Cluster(nodes) => nodes.iter_mut().all(ConnectionLike::check_connection),
        }
    }

    fn is_open(&self) -> bool {
        match self {
            Self::One(connection) => connection.is_open(),
            Self::Cluster(nodes) => nodes.iter().all(ConnectionLike::is_open),
        }
    }
}
