//! The keys of an object, as a stranger with redis-cli sees and changes them.

use std::sync::Mutex;

use pmq_broker::Name;
use pmq_tests::shared::Raw;
use pmq_tests::{Redis, eventually_async};
use redis::{FromRedisValue, cmd};

use crate::fleet::SOON;

/// Ends the leases of the members whose names begin so: of the lone holder, and of those with a row.
const END_LEASES: &str = r#"
local function begins(member)
  return string.sub(member, 1, #ARGV[1]) == ARGV[1]
end
local lone = redis.call("HGET", KEYS[1], "lone")
if lone and #lone == 40 and begins(string.sub(lone, 21)) then
  redis.call("HSET", KEYS[1], "lone", string.sub(lone, 1, 36) .. "\0\0\0\0")
end
for _, member in ipairs(redis.call("ZRANGE", KEYS[2], 0, -1)) do
  if begins(member) then
    redis.call("ZADD", KEYS[2], 1, member)
  end
end
"#;

/// The keys of one object.
pub(crate) struct Keys {
    connection: Mutex<Raw>,
    prefix: String,
}

impl Keys {
    /// The keys of the object of this kind and name.
    pub(crate) fn new(server: &impl Redis, kind: &str, name: &Name) -> Self {
        Self {
            connection: Mutex::new(server.raw()),
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

    /// Ends the leases of the members whose names begin so, all at once.
    pub(crate) fn end_leases(&self, prefix: &[u8]) {
        let keys = [self.key("meta"), self.key("members")];
        let mut command = cmd("EVAL");
        command.arg(END_LEASES).arg(2).arg(&keys).arg(prefix);
        command.exec(&mut self.connection.lock().unwrap()).unwrap();
    }

    /// Ends the lease of a member now.
    pub(crate) fn end_lease(&self, member: &[u8]) {
        self.end_leases(member);
    }

    /// The member of the one that holds a lock or semaphore that nobody else uses.
    pub(crate) fn lone_holder(&self) -> Vec<u8> {
        let lone: Vec<u8> = self.ask("HGET", "meta", &[b"lone"]);
        lone[20..36].to_vec()
    }

    /// Whether the part is there for good, and not for a time.
    pub(crate) fn stays(&self, part: &str) -> bool {
        self.ask::<i64>("PTTL", part, &[]) == -1
    }
}
