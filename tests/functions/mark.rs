//! mark: something for WAIT to wait for.

use pmq_tests::RedisServer;

use crate::call::{Call, texts};
use crate::shard::Shard;

#[test]
fn each_mark_is_written_also_where_nothing_changes_and_goes_after_a_minute() {
    drop(Shard::new()); // loads the library
    let mut connection = RedisServer::shared().connection();
    let key = "mark-test:{q}:mark".to_owned();
    for _ in 0..2 {
        let before: u64 = changes(&mut connection);
        let answer = Call::new("mark").send(&mut connection, std::slice::from_ref(&key));
        assert_eq!(texts(&answer.unwrap()), ["ok"]);
        assert!(changes(&mut connection) > before, "it goes to the replicas");
        let ttl: i64 = redis::cmd("PTTL").arg(&key).query(&mut connection).unwrap();
        assert!((1..=60_000).contains(&ttl), "{ttl}");
    }
}

/// Counts the changes of the whole server, which other tests make as well.
fn changes(connection: &mut redis::Connection) -> u64 {
    let info: String = redis::cmd("INFO")
        .arg("persistence")
        .query(connection)
        .unwrap();
    let field = info
        .lines()
        .find_map(|line| line.strip_prefix("rdb_changes_since_last_save:"));
    field.unwrap().trim().parse().unwrap()
}
