//! A shard of a test's own, on a shared server: calls, and what they change.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use pmq_broker::functions::SOURCE;
use pmq_broker::keys::ShardKeys;
use pmq_broker::{Incarnation, Name, TaskId};
use pmq_tests::RedisServer;
use redis::{Connection, RedisResult, ToRedisArgs, Value};

use crate::call::Call;
use crate::print::{Printer, changes};
use crate::state::State;

static QUEUES: AtomicU64 = AtomicU64::new(1);
static LOADED: OnceLock<()> = OnceLock::new();

/// One shard, which no other test uses.
pub(crate) struct Shard {
    pub(crate) keys: ShardKeys,
    connection: RefCell<Connection>,
    printer: Printer,
}

impl Shard {
    /// A new shard on the server that all tests share.
    pub(crate) fn new() -> Self {
        let server = RedisServer::shared();
        LOADED.get_or_init(|| load(server));
        Self::on(server)
    }

    /// A new shard on this server, where the library is loaded already.
    pub(crate) fn on(server: &RedisServer) -> Self {
        let name = format!("q{}", QUEUES.fetch_add(1, Ordering::Relaxed));
        Self::named(&name, server)
    }

    /// The shard of this queue.
    pub(crate) fn named(name: &str, server: &RedisServer) -> Self {
        Self {
            keys: ShardKeys::new(&namespace(), &Name::new(name).unwrap()),
            connection: RefCell::new(server.connection()),
            printer: Printer::default(),
        }
    }

    /// Goes on with another connection, after a restart or to another node.
    pub(crate) fn reconnect(&self, server: &RedisServer) {
        self.connection.replace(server.connection());
    }

    /// Goes on as another user of the server.
    pub(crate) fn log_in(&self, user: &str, password: &str) {
        self.redis("AUTH", &[user, password]);
    }

    /// The key of a part of the shard.
    pub(crate) fn key(&self, part: &str) -> String {
        let meta = &self.keys.fixed()[0];
        format!("{}{part}", meta.strip_suffix("meta").unwrap())
    }

    /// A plain Redis command.
    pub(crate) fn redis(&self, command: &str, args: &[impl ToRedisArgs]) -> Value {
        let mut connection = self.connection.borrow_mut();
        let answer = redis::cmd(command).arg(args).query(&mut *connection);
        answer.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// One function call.
    pub(crate) fn try_call(&self, call: &Call) -> RedisResult<Value> {
        call.send(&mut self.connection.borrow_mut(), self.keys.fixed())
    }

    /// One function call with other keys than the shard's fixed ones.
    pub(crate) fn try_call_with(&self, call: &Call, keys: &[String]) -> RedisResult<Value> {
        call.send(&mut self.connection.borrow_mut(), keys)
    }

    /// One function call that must succeed.
    pub(crate) fn call(&self, call: &Call) -> Value {
        self.try_call(call)
            .unwrap_or_else(|error| panic!("{}: {error}", call.verb))
    }

    /// One function call, which must change exactly these lines of the state.
    #[track_caller]
    pub(crate) fn expect(&self, call: &Call, expected: &str) -> Value {
        let before = self.lines();
        let answer = self.call(call);
        let changed = changes(&before, &self.lines()).join("\n");
        let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
        assert_eq!(
            changed,
            expected.join("\n"),
            "\n{} changed:\n{changed}\n",
            call.verb
        );
        answer
    }

    /// One function call, which must change nothing.
    #[track_caller]
    pub(crate) fn expect_nothing(&self, call: &Call) -> Value {
        self.expect(call, "")
    }

    /// One function call that must fail with this word, and change nothing.
    #[track_caller]
    pub(crate) fn expect_error(&self, call: &Call, word: &str) {
        let before = self.state();
        let error = self.try_call(call).expect_err("it fails").to_string();
        assert!(error.contains(word), "{error}");
        assert_eq!(before, self.state());
    }

    /// The exact state.
    pub(crate) fn state(&self) -> State {
        State::read(&mut self.connection.borrow_mut(), &self.key(""))
    }

    /// Deletes every key, for tests of many shards: reading a state costs what the server holds.
    pub(crate) fn clear(&self) {
        for part in self.state().0.keys() {
            self.redis("UNLINK", &[self.key(part)]);
        }
    }

    /// The state as text.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.printer.lines(&self.state(), self.now_ms())
    }

    /// The server's time, in ms since the epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        let time: (u64, u64) = redis::cmd("TIME")
            .query(&mut *self.connection.borrow_mut())
            .unwrap();
        time.0 * 1000 + time.1 / 1000
    }
}

/// The namespace of all these tests.
pub(crate) fn namespace() -> Name {
    Name::new("functions").unwrap()
}

/// Loads the library.
pub(crate) fn load(server: &RedisServer) {
    redis::cmd("FUNCTION")
        .arg(&["LOAD", "REPLACE", SOURCE])
        .exec(&mut server.connection())
        .unwrap_or_else(|error| panic!("the library does not load: {error}"));
}

/// 16 bytes that read as this word.
pub(crate) fn padded(word: &str) -> [u8; 16] {
    let mut bytes = [b'.'; 16];
    bytes[..word.len()].copy_from_slice(word.as_bytes());
    bytes
}

/// The id that reads as this word.
pub(crate) fn id(word: &str) -> TaskId {
    TaskId::from_slice(&padded(word)).unwrap()
}

/// The incarnation that reads as this word.
pub(crate) fn who(word: &str) -> Incarnation {
    Incarnation::from_slice(&padded(word)).unwrap()
}
