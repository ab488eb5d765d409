//! Servers of which a Cluster or sentinels tell later are looked at as those that the URL names.
//!
//! They call themselves 0.0.0.0 here: an address that is nobody's own, and leads to this machine.

use std::time::Duration;

use pmq_broker::connection::Insecurity;
use pmq_broker::{Broker, Config, Error, Task};
use pmq_tests::{Cluster, RedisServer, SentinelGroup, eventually};
use redis::cmd;

use crate::fleet::{LONG, name, pmq_at};

const ANYWHERE: &str = "0.0.0.0";

async fn connect(url: &str, insecure: bool) -> Result<Broker, Error> {
    let config = Config {
        insecure,
        ..Config::url(url)
    };
    Broker::connect(&config).await
}

#[track_caller]
fn is_refused<T>(answer: Result<T, Error>, server: &RedisServer) {
    let Err(Error::Insecure { at, why }) = answer else {
        panic!("{:?}", answer.err());
    };
    let expected = format!("{ANYWHERE}:{}", server.port().unwrap());
    assert_eq!((at, why), (expected, Insecurity::Neither));
}

/// The sentence, and the way out.
fn the_command_tells(url: &str, server: &RedisServer) {
    let text = pmq_at(url).run(["status"]).expect_code(69).error_text();
    let at = format!("{ANYWHERE}:{}", server.port().unwrap());
    for part in [&at, "without a password and without TLS", "--insecure"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let _ = pmq_at(url).run(["--insecure", "status"]).expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_moves_to_a_public_address_is_not_followed_there() {
    let cluster = Cluster::start(2);
    let url = cluster.url();
    let broker = connect(&url, false).await.unwrap();
    let [stays, moves] = ["stays", "moves"].map(|prefix| {
        let queue = cluster.name_at(0, prefix, |queue| format!("{{{queue}/0}}"));
        broker.task_queue(&name(&queue))
    });
    for queue in [&stays, &moves] {
        queue.create(1).await.unwrap();
        queue.submit(&Task::handler("t", "")).await.unwrap();
    }
    let public = &cluster.nodes()[1];
    let set = ["SET", "cluster-announce-ip", ANYWHERE];
    cmd("CONFIG")
        .arg(&set)
        .exec(&mut public.connection())
        .unwrap();
    eventually("the other node has heard of it", LONG, || {
        let nodes: String = cmd("CLUSTER")
            .arg("NODES")
            .query(&mut cluster.nodes()[0].connection())
            .unwrap();
        nodes.contains(ANYWHERE).then_some(())
    });
    // The slot goes there, and the call that follows it does not.
    let slot = cluster.slot_of(&format!("{{{}/0}}", moves.name()));
    cluster.begin_migration(slot).finish();
    is_refused(moves.submit(&Task::handler("t", "")).await, public);
    stays.submit(&Task::handler("t", "")).await.unwrap();
    is_refused(connect(&url, false).await, public);
    the_command_tells(&url, public);
    let broker = connect(&url, true).await.unwrap();
    let queue = broker.task_queue(moves.name());
    queue.submit(&Task::handler("t", "")).await.unwrap();
    assert_eq!(queue.status().await.unwrap().ready, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_on_a_public_address_is_not_followed_after_a_failover() {
    let mut group = SentinelGroup::with(|server| server.config("replica-announce-ip", ANYWHERE));
    let url = group.url();
    let broker = connect(&url, false).await.unwrap();
    let queue = broker.task_queue(&name("q"));
    queue.submit(&Task::handler("t", "")).await.unwrap();
    let bold = connect(&url, true).await.unwrap();
    group.servers_mut()[0].kill();
    let primary = group.wait_for_failover(0);
    let public = &group.servers()[primary];
    let refused =
        pmq_tests::eventually_async("it is refused", Duration::from_secs(20), async || {
            let answer = queue.submit(&Task::handler("t", "")).await;
            let waits = matches!(answer, Err(Error::Unreachable { .. }));
            (!waits).then_some(answer)
        });
    is_refused(refused.await, public);
    is_refused(connect(&url, false).await, public);
    the_command_tells(&url, public);
    let queue = bold.task_queue(&name("q"));
    queue.submit(&Task::handler("t", "")).await.unwrap();
}
