//! Rare turns of the words of multiprocessing, step by step; the models in `tests/e2e/model` walk the usual ones.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pmq_tests::RedisServer;
use redis::{Connection, FromRedisValue, Value};

use crate::call::{Call, texts};
use crate::shard::{Shard, padded};

pub(crate) const LOCK: [&str; 4] = ["meta", "members", "log", "waiters"];
const QUEUE: [&str; 10] = [
    "meta", "members", "log", "items", "getters", "putters", "granted", "rooms", "joiners", "got",
];
const DAY: Duration = Duration::from_secs(86_400);
/// A frame of the one item `x`.
const FRAME: &[u8] = b"\x01\x00\x01\x00\x00\x00x";

/// One object, which no other test uses.
pub(crate) struct Object {
    keys: Vec<String>,
    connection: RefCell<Connection>,
}

impl Object {
    pub(crate) fn new(name: &str, parts: &[&str]) -> Self {
        drop(Shard::new()); // the library is loaded
        let parts = parts.iter().chain(&["absent"]);
        Self {
            keys: parts
                .map(|part| format!("functions:object:{{{name}}}:{part}"))
                .collect(),
            connection: RefCell::new(RedisServer::shared().connection()),
        }
    }

    fn queue(name: &str) -> Self {
        Self::new(name, &QUEUE)
    }

    pub(crate) fn answer(&self, call: &Call) -> Value {
        let mut connection = self.connection.borrow_mut();
        call.send(&mut connection, &self.keys).unwrap()
    }

    pub(crate) fn call(&self, call: &Call) -> Vec<String> {
        texts(&self.answer(call))
    }

    pub(crate) fn redis<T: FromRedisValue>(&self, command: &str, part: &str, rest: &[&str]) -> T {
        let key = self.keys.iter().find(|key| key.ends_with(part)).unwrap();
        let mut command = redis::cmd(command);
        command.arg(key).arg(rest);
        command.query(&mut *self.connection.borrow_mut()).unwrap()
    }

    fn end_lease(&self, member: &str) {
        let mut command = redis::cmd("ZADD");
        command
            .arg(&self.keys[1])
            .arg("XX")
            .arg(1)
            .arg(&padded(member));
        command.exec(&mut self.connection.borrow_mut()).unwrap();
    }
}

/// A numbered step of a member.
fn step(verb: &'static str, member: &str, number: u32) -> Call {
    let call = Call::new(verb).arg("").arg(padded(member));
    call.n(number).n(60_000)
}

/// A step of a queue, which is bounded to one item.
fn bounded(verb: &'static str, member: &str, number: u32) -> Call {
    step(verb, member, number).arg("1").arg("0")
}

/// Asks what became of a putter's place in the line.
fn ask(member: &str, number: u32) -> Call {
    bounded("queue_put", member, number).arg("1")
}

fn put(member: &str, number: u32) -> Call {
    ask(member, number).arg(FRAME)
}

fn get(member: &str, number: u32) -> Call {
    bounded("queue_get", member, number).arg("1").n(1)
}

#[test]
fn a_lock_in_use_lives_on_however_often_it_is_taken() {
    let lock = Object::new("busy", &LOCK);
    let acquire = |member| {
        let call = Call::new("sem_acquire").arg("").arg(padded(member));
        call.n(15_000).n(1).arg("0")
    };
    let release = |member| {
        let call = Call::new("sem_release").arg("").arg(padded(member));
        call.arg("back").arg("0")
    };
    assert_eq!(lock.call(&acquire("first"))[0], "ok");
    lock.call(&release("first"));
    // It was last taken just before midnight, less than a day ago, and is to expire soon.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let midnight = now.as_secs() / DAY.as_secs() * DAY.as_secs();
    let fence = (midnight * 1_000_000 - 1).to_string();
    for member in ["plainly", "otherwise"] {
        lock.redis::<i64>("HSET", "meta", &["fence", &fence]);
        lock.redis::<i64>("PEXPIRE", "meta", &["60000"]);
        if member == "otherwise" {
            lock.redis::<i64>("HSET", "meta", &["abandoned", "1"]);
        }
        assert_eq!(lock.call(&acquire(member))[0], "ok");
        let left: u64 = lock.redis("PTTL", "meta", &[]);
        assert!(left > DAY.as_millis() as u64, "{left} ms");
        lock.call(&release(member));
    }
}

#[test]
fn a_putter_whose_room_a_cancelled_get_took_back_waits_as_the_first_and_is_served() {
    let queue = Object::queue("cancelled");
    assert_eq!(queue.call(&put("early", 1)), ["ok", "1"]);
    assert_eq!(queue.call(&put("first", 1)), ["wait"]);
    assert_eq!(queue.call(&put("second", 1)), ["wait"]);
    assert_eq!(queue.call(&get("getter", 1))[0], "ok");
    // The getter did not hear that it got the item, when the first putter has room for its own.
    let leave = Call::new("queue_leave").arg("").n(60_000);
    queue.call(&leave.arg(padded("getter")).n(1));
    assert_eq!(queue.call(&put("first", 1)), ["wait"]);
    assert_eq!(queue.call(&get("other", 1))[0], "ok");
    assert_eq!(queue.call(&ask("second", 1)), ["wait"]);
    assert_eq!(queue.call(&ask("first", 1)), ["room"]);
    assert_eq!(queue.call(&put("first", 1)), ["ok", "1"]);
    assert_eq!(queue.call(&get("other", 2))[0], "ok");
    assert_eq!(queue.call(&put("second", 1)), ["ok", "1"]);
}

#[test]
fn what_a_dead_getter_was_granted_is_counted_also_by_a_call_that_is_refused() {
    let queue = Object::queue("refused");
    assert_eq!(queue.call(&get("dead", 1)), ["wait"]);
    assert_eq!(queue.call(&put("putter", 1)), ["ok", "1"]);
    queue.end_lease("dead");
    let unbounded = step("queue_get", "other", 1).arg("0").arg("0");
    let refused = queue.call(&unbounded.arg("0").n(1));
    assert_eq!(refused, ["other", "1"]);
    assert_eq!(queue.call(&Call::new("queue_look"))[0], "1");
    assert_eq!(queue.call(&get("getter", 1))[0], "ok");
}

#[test]
fn a_join_ends_also_where_items_are_unfinished_again() {
    let queue = Object::queue("joined");
    let joinable = |verb, member, number| step(verb, member, number).arg("").arg("1");
    let put = |number| {
        let call = joinable("queue_put", "putter", number);
        call.arg("1").arg(FRAME)
    };
    let join = joinable("queue_join", "joiner", 7).arg("1");
    queue.call(&joinable("queue_join", "joiner", 1).arg("1")); // nothing is unfinished: its log is there
    queue.call(&put(1));
    assert_eq!(queue.call(&join), ["wait"]);
    queue.call(&joinable("queue_task_done", "worker", 1).n(1));
    queue.call(&put(2));
    assert_eq!(queue.call(&join), ["ok"]);
}

#[test]
fn a_party_hears_that_it_passed_also_where_a_call_of_it_never_arrived() {
    let barrier = Object::new("skipped", &LOCK);
    let wait = |member, number, how| {
        let call = step("barrier_wait", member, number);
        call.n(2).arg("0").arg(how)
    };
    assert_eq!(barrier.call(&step("barrier_reset", "first", 1)), ["ok"]);
    assert_eq!(barrier.call(&wait("first", 3, "arrive"))[0], "wait");
    assert_eq!(barrier.call(&wait("second", 1, "arrive"))[0], "ok");
    assert_eq!(barrier.call(&wait("first", 3, "wait"))[0], "ok");
}
