//! Rare turns of the words of multiprocessing, step by step; the models in `tests/e2e/model` walk the usual ones.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pmq_tests::RedisServer;
use redis::{Connection, FromRedisValue, Value};

use crate::call::{Call, bytes, items, texts};
use crate::lone;
use crate::shard::{Shard, padded};

pub(crate) const LOCK: [&str; 4] = ["meta", "members", "log", "waiters"];
const QUEUE: [&str; 10] = [
    "meta", "members", "log", "items", "getters", "putters", "granted", "rooms", "joiners", "got",
];
const LIST: [&str; 7] = [
    "meta",
    "members",
    "log",
    "items",
    "refs",
    "draft",
    "draft.refs",
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

    /// A call that gets the first key alone.
    pub(crate) fn call_meta(&self, call: &Call) -> Vec<String> {
        let mut connection = self.connection.borrow_mut();
        texts(&call.send(&mut connection, &self.keys[..1]).unwrap())
    }

    /// Writes what is not text.
    pub(crate) fn redis_bytes(&self, command: &str, part: &str, rest: &[&[u8]]) {
        let key = self.keys.iter().find(|key| key.ends_with(part)).unwrap();
        let mut command = redis::cmd(command);
        command.arg(key).arg(rest);
        command.exec(&mut self.connection.borrow_mut()).unwrap();
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
    lock.call(&acquire("first"));
    assert_eq!(lock.call(&release("first")), ["ok"]);
    // It was last taken just before the present 100,000 s, and is to expire soon.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let fence = (now.as_secs() / 100_000 * 100_000_000_000 - 1).to_string();
    for member in ["plainly", "otherwise"] {
        let lone = [fence.as_bytes(), &1_u32.to_le_bytes()].concat();
        lock.redis_bytes("HSET", "meta", &[b"lone", &lone]);
        lock.redis::<i64>("PEXPIRE", "meta", &["60000"]);
        let alone = lone::take(member, 1);
        assert_eq!(lock.call_meta(&alone), ["no"], "that is the other's to do");
        if member == "otherwise" {
            lock.redis::<i64>("HSET", "meta", &["abandoned", "1"]);
        }
        assert_eq!(lock.call(&acquire(member)).len(), 1);
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
fn a_queue_expires_while_it_is_empty_and_stays_while_it_is_not() {
    let queue = Object::queue("idle");
    let expires = || queue.redis::<i64>("PTTL", "meta", &[]) > 0;
    let joinable = |verb, number| step(verb, "user", number).arg("1").arg("1");
    let put = |number| joinable("queue_put", number).arg("1").arg(FRAME);
    let get = |number| joinable("queue_get", number).arg("1").n(1);
    let done = |number| joinable("queue_task_done", number).n(1);
    queue.call(&put(1));
    assert!(!expires());
    queue.call(&get(2));
    assert!(!expires(), "an item is unfinished");
    queue.call(&done(3));
    assert!(expires());
    queue.call(&put(4));
    assert!(!expires());
    queue.call(&get(5));
    queue.call(&done(6));
    // Who got the last item did not hear of it, so that it goes back.
    queue.call(&put(7));
    queue.call(&done(8));
    queue.call(&get(9));
    assert!(expires());
    let leave = Call::new("queue_leave").arg("").n(60_000);
    queue.call(&leave.clone().arg(padded("user")).n(9));
    assert!(!expires());
    assert_eq!(queue.call(&Call::new("queue_look"))[0], "1");
    // Its last user leaves while an item is unfinished.
    let again = |verb, number| step(verb, "other", number).arg("1").arg("1");
    let one = queue.call(&again("queue_get", 1).arg("1").n(1));
    assert_eq!(one[0], "ok");
    queue.call(&again("queue_put", 2).arg("1").arg(FRAME));
    queue.call(&again("queue_get", 3).arg("1").n(1));
    queue.end_lease("user");
    queue.call(&leave.arg(padded("other")).n(0));
    queue.call(
        &Call::new("queue_leave")
            .arg("")
            .n(60_000)
            .arg(padded("user"))
            .n(0),
    );
    assert!(expires());
    queue.call(
        &step("queue_put", "third", 1)
            .arg("1")
            .arg("1")
            .arg("1")
            .arg(FRAME),
    );
    assert!(!expires());
}

#[test]
fn a_putter_gives_its_place_up_without_its_items_unless_it_was_granted_room() {
    let queue = Object::queue("gives_up");
    let give_up = |member| bounded("queue_put", member, 1).arg("0");
    assert_eq!(queue.call(&put("early", 1)), ["ok", "1"]);
    assert_eq!(queue.call(&put("first", 1)), ["wait"]);
    assert_eq!(queue.call(&put("second", 1)), ["wait"]);
    assert_eq!(queue.call(&give_up("first")), ["full"]);
    assert_eq!(queue.call(&get("getter", 1))[0], "ok");
    assert_eq!(queue.call(&give_up("second")), ["room"]);
    let put_now = bounded("queue_put", "second", 1).arg("0").arg(FRAME);
    assert_eq!(queue.call(&put_now), ["ok", "1"]);
}

/// A frame of items of this size, which begin with their number.
fn frame(items: u16, size: usize) -> Vec<u8> {
    let mut frame = items.to_le_bytes().to_vec();
    for n in 0..items {
        let mut item = n.to_le_bytes().to_vec();
        item.resize(size, 0);
        frame.extend(u32::try_from(size).unwrap().to_le_bytes());
        frame.extend(item);
    }
    frame
}

#[test]
fn one_put_serves_five_hundred_getters_in_their_order() {
    let queue = Object::queue("served");
    let member = |n: u16| format!("getter{n:03}");
    for n in 0..500 {
        assert_eq!(queue.call(&unbounded_get(&member(n))), ["wait"]);
    }
    let put = step("queue_put", "putter", 1).arg("").arg("0").arg("1");
    queue.call(&put.arg(frame(500, 2000)));
    for n in 0..500 {
        let got = bytes(&items(&queue.answer(&unbounded_get(&member(n))))[1]);
        assert_eq!((got.len(), &got[..2]), (2006, &[1, 0][..]));
        assert_eq!(got[6..8], n.to_le_bytes());
    }
}

fn unbounded_get(member: &str) -> Call {
    let call = step("queue_get", member, 1).arg("").arg("0");
    call.arg("1").n(1)
}

#[test]
fn equal_items_are_counted_page_by_page_while_nobody_changes_the_list() {
    const PAGE: usize = 16_384;
    let list = Object::new("counted", &LIST);
    let item = |n: usize| if n.is_multiple_of(3) { "7" } else { "8" };
    for begin in (0..20_000).step_by(500) {
        let number = begin as u32 / 500 + 1;
        let extend = step("list_extend", "writer", number);
        list.call(&extend.args((begin..begin + 500).map(item)));
    }
    let count = |version: &str, from| Call::new("list_count").arg(version).n(from).arg("7");
    let first = list.call(&count("", 0));
    assert_eq!(first[2..], [PAGE.div_ceil(3).to_string(), PAGE.to_string()]);
    let second = list.call(&count(&first[1], PAGE));
    let rest = 20_000_usize.div_ceil(3) - PAGE.div_ceil(3);
    assert_eq!(second[2..], [rest.to_string(), String::new()]);
    list.call(&step("list_pop", "writer", 41).arg("-1"));
    assert_eq!(list.call(&count(&first[1], PAGE)), ["changed"]);
}

#[test]
fn a_slice_is_deleted_wherever_it_is() {
    let list = Object::new("deleted", &LIST);
    let mut left: Vec<u32> = (0..100).collect();
    let extend = step("list_extend", "writer", 1);
    list.call(&extend.args(left.iter().map(u32::to_string)));
    let slices = [["1", "4", "1"], ["-9", "-2", "3"], ["90", "2", "-40"]];
    for (number, slice) in (2..).zip(slices) {
        list.call(&step("list_delete", "writer", number).args(slice));
    }
    left.retain(|n| !matches!(n, 1..=3 | 91 | 94 | 97));
    for at in [90, 50, 10] {
        left.remove(at);
    }
    let texts: Vec<String> = left.iter().map(u32::to_string).collect();
    let all: Vec<String> = list.redis("LRANGE", "items", &["0", "-1"]);
    assert_eq!(all, texts);
}

#[test]
fn a_waiter_whose_first_answer_was_lost_hears_of_a_set_that_was_cleared_since() {
    let event = Object::new("cleared", &LOCK);
    let wait = step("event_wait", "waiter", 1).arg("").arg("1");
    assert_eq!(event.call(&wait), ["wait", "0"]);
    event.call(&step("event_set", "setter", 1).arg("1"));
    event.call(&step("event_clear", "setter", 2));
    assert_eq!(event.call(&wait), ["set"]);
    event.end_lease("waiter");
    event.call(&step("event_clear", "setter", 3));
    assert!(!event.redis::<bool>("HEXISTS", "log", &["waiter.........."]));
}

#[test]
fn a_ticket_that_was_opened_leaves_nothing_behind() {
    let parts = [
        "meta", "members", "log", "messages", "readers", "writers", "reading", "writing", "asked",
    ];
    let pipe = Object::new("moved", &parts);
    let open = |member, how, rest: &[u8]| {
        let call = Call::new("pipe_open").arg("60000").arg(padded(member));
        call.n(60_000).arg("r").arg(how).arg(rest)
    };
    let (reader, ticket) = (padded("reader"), padded("ticket"));
    assert_eq!(pipe.call(&open("reader", "new", b"100")), ["ok"]);
    assert_eq!(pipe.call(&open("ticket", "share", &reader)), ["ok"]);
    assert_eq!(pipe.call(&open("other", "move", &ticket)), ["ok"]);
    assert_eq!(pipe.redis::<u32>("HLEN", "log", &[]), 2);
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

#[test]
fn a_step_whose_numbers_are_none_changes_nothing() {
    let list = Object::new("no-lease", &LIST);
    let append = |ttl: &str, lease: &str| {
        let call = Call::new("list_extend").arg(ttl).arg(padded("member"));
        call.n(1).arg(lease).arg("7")
    };
    for (ttl, lease) in [("", ""), ("", "nan"), ("soon", "60000")] {
        let mut connection = list.connection.borrow_mut();
        let answer = append(ttl, lease).send(&mut connection, &list.keys);
        let error = answer.and_then(Value::extract_error).unwrap_err();
        assert!(error.to_string().contains("PMQMALFORMED"), "{error}");
        drop(connection);
        assert_eq!(list.redis::<u64>("EXISTS", ":items", &[]), 0);
    }
    assert_eq!(list.call(&append("", "60000"))[0], "ok");
}

#[test]
fn what_is_no_frame_is_not_put() {
    let queue = Object::queue("no-frame");
    for garbage in [
        &b"0"[..],
        b"\x00\x00\x00\x00\x00\x00",
        b"\xff\xff\x01\x00\x00\x00x",
    ] {
        let call = ask("putter", 1).arg(FRAME).arg(garbage);
        let answer = call.send(&mut queue.connection.borrow_mut(), &queue.keys);
        let error = answer.and_then(Value::extract_error).unwrap_err();
        assert!(error.to_string().contains("PMQMALFORMED"), "{error}");
        assert_eq!(queue.call(&Call::new("queue_look"))[0], "0");
    }
}
