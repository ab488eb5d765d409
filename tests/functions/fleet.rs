//! present and fleet: which workers are up.

use pmq_broker::Name;
use pmq_broker::keys::FleetKeys;
use pmq_tests::RedisServer;
use redis::Connection;

use crate::call::{Call, texts};
use crate::shard::{Shard, padded};

/// A fleet of a namespace of its own.
struct Fleet {
    keys: FleetKeys,
    connection: Connection,
}

impl Fleet {
    fn new(namespace: &str) -> Self {
        drop(Shard::new()); // loads the library
        Self {
            keys: FleetKeys::new(&Name::new(namespace).unwrap()),
            connection: RedisServer::shared().connection(),
        }
    }

    fn call(&mut self, call: &Call) -> Vec<String> {
        texts(
            &call
                .send(&mut self.connection, &self.keys.presence)
                .unwrap(),
        )
    }

    fn up(&mut self) -> Vec<String> {
        let mut up = self.call(&Call::new("fleet"));
        up.sort();
        up
    }
}

fn present(who: &str, lease: u64) -> Call {
    let call = Call::new("present").arg(padded(who)).n(lease);
    call.arg(format!("about {who}"))
}

#[test]
fn a_worker_is_up_until_it_says_that_it_stops() {
    let mut fleet = Fleet::new("stops");
    for _ in 0..2 {
        assert_eq!(fleet.call(&present("a", 60_000)), ["ok"]);
        fleet.call(&present("b", 60_000));
        assert_eq!(fleet.up(), ["about a", "about b"]);
    }
    for _ in 0..2 {
        assert_eq!(fleet.call(&present("a", 0)), ["ok"]);
        assert_eq!(fleet.up(), ["about b"]);
    }
}

#[test]
fn a_worker_that_is_silent_is_forgotten_by_the_next_call_of_another() {
    let mut fleet = Fleet::new("silent");
    fleet.call(&present("a", 60_000));
    let keys = fleet.keys.presence.clone();
    redis::cmd("ZADD")
        .arg(&keys[0])
        .arg(1)
        .arg(&padded("a"))
        .exec(&mut fleet.connection)
        .unwrap();
    assert!(fleet.up().is_empty());
    fleet.call(&present("b", 60_000));
    let about: usize = redis::cmd("HLEN")
        .arg(&keys[1])
        .query(&mut fleet.connection)
        .unwrap();
    assert_eq!(about, 1);
    redis::cmd("ZADD")
        .arg(&keys[0])
        .arg(1)
        .arg(&padded("b"))
        .exec(&mut fleet.connection)
        .unwrap();
    fleet.call(&present("b", 60_000));
    assert_eq!(fleet.up(), ["about b"], "a late one is up again");
}

#[test]
fn a_key_of_another_type_is_an_error_and_nothing_is_written() {
    let mut fleet = Fleet::new("types");
    for wrong in 0..2 {
        let keys = fleet.keys.presence.clone();
        redis::cmd("SET")
            .arg(&keys[wrong])
            .arg("x")
            .exec(&mut fleet.connection)
            .unwrap();
        for call in [present("a", 60_000), present("a", 0)] {
            let error = call.send(&mut fleet.connection, &keys).unwrap_err();
            assert!(error.to_string().contains("WRONGTYPE"), "{error}");
        }
        let other: usize = redis::cmd("EXISTS")
            .arg(&keys[1 - wrong])
            .query(&mut fleet.connection)
            .unwrap();
        assert_eq!(other, 0);
        redis::cmd("DEL")
            .arg(&keys)
            .exec(&mut fleet.connection)
            .unwrap();
    }
}
