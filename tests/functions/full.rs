//! A server whose memory is full takes nothing new, and still drains.

use pmq_broker::Task;
use pmq_tests::RedisServer;

use crate::call::Call;
use crate::scenario::SCENARIOS;
use crate::seed::{finish, submit, task};
use crate::shard::{Shard, load};

/// Puts the limit below what is used, so that every further byte is refused.
fn fill(shard: &Shard) {
    shard.redis("CONFIG", &["SET", "maxmemory", "1"]);
}

fn empty(shard: &Shard) {
    shard.redis("CONFIG", &["SET", "maxmemory", "0"]);
}

#[test]
fn a_full_server_refuses_what_makes_it_fuller_and_nothing_else() {
    let server = RedisServer::start();
    load(&server);
    for scenario in &SCENARIOS {
        let shard = Shard::on(&server);
        let call: Call = (scenario.prepare)(&shard);
        fill(&shard);
        if ["submit", "join", "requeue", "log_append"].contains(&scenario.verb) {
            shard.expect_error(&call, "OOM");
        } else {
            shard.call(&call);
        }
        empty(&shard);
    }
}

#[test]
fn a_backlog_drains_on_a_full_server() {
    let server = RedisServer::start();
    load(&server);
    let shard = Shard::on(&server);
    let tasks: Vec<Task> = (0..300).map(|i| task(&format!("a{i}"))).collect();
    shard.call(&submit(&tasks));
    fill(&shard);
    shard.expect_error(&submit(&[task("new")]), "OOM");
    let mut ended = 0;
    loop {
        let held = shard.claimed("w", 64);
        if held.is_empty() {
            break;
        }
        ended += held.len();
        let runs: Vec<_> = held.iter().map(|held| (held, "o")).collect();
        shard.call(&finish(&runs));
    }
    assert_eq!(ended, 300);
    empty(&shard);
    shard.call(&submit(&[task("new")]));
}
