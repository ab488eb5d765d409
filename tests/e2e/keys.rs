//! The keys of an object, as a stranger with redis-cli sees and changes them.

use std::sync::Mutex;

use pmq_broker::Name;
use pmq_tests::{RedisServer, eventually_async};
use redis::{Connection, FromRedisValue, cmd};

use crate::fleet::SOON;

/// The keys of one object.
pub(crate) struct Keys {
    connection: Mutex<Connection>,
    prefix: String,
}

impl Keys {
    /// The keys of the object of this kind and name.
    pub(crate) fn new(server: &RedisServer, kind: &str, name: &Name) -> Self {
        Self {
            connection: Mutex::new(server.connection()),
            prefix: format!("pmq:{kind}:{{{name}}}:"),
        }
    }

    fn ask<T: FromRedisValue>(&self, command: &str, part: &str, rest: &[&[u8]]) -> T {
        let mut command = cmd(command);
        command.arg(self.key(part)).arg(rest);
        command.query(&mut self.connection.lock().unwrap()).unwrap()
    }

    /// The key of a part.
    pub(crate) fn key(&self, part: &str) -> String {
        format!("{}{part}", self.prefix)
    }

    /// The members in a sorted set, in order.
    pub(crate) fn line(&self, part: &str) -> Vec<Vec<u8>> {
        self.ask("ZRANGE", part, &[b"0", b"-1"])
    }

    /// Waits until a sorted set has so many members.
    pub(crate) async fn wait_for_line(&self, part: &str, n: usize) {
        let what = format!("{n} stand in {}{part}", self.prefix);
        eventually_async(&what, SOON, async || {
            (self.line(part).len() == n).then_some(())
        })
        .await;
    }

    /// Ends the lease of a member now.
    pub(crate) fn end_lease(&self, member: &[u8]) {
        let _: i64 = self.ask("ZADD", "members", &[b"XX", b"1", member]);
    }

    /// Whether the part is there for good, and not for a time.
    pub(crate) fn stays(&self, part: &str) -> bool {
        self.ask::<i64>("PTTL", part, &[]) == -1
    }
}
