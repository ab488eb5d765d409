//! What an acknowledgement promises, by real replicas that stand still and servers that do not write to their disks.

use std::time::Duration;

use pmq_broker::task_queue::Submitted;
use pmq_broker::{Broker, Config, Durability, Error, Task};
use pmq_tests::redis_server::Builder;
use pmq_tests::{Cluster, RedisServer, SentinelGroup, eventually, eventually_async};

use crate::everyday;
use crate::fleet::{Fleet, LONG, SOON, name, pmq_at};

/// A primary with a replica that has its data.
fn pair() -> (RedisServer, RedisServer) {
    let primary = RedisServer::builder().tcp(true).start();
    let at = format!("127.0.0.1 {}", primary.port().unwrap());
    let replica = RedisServer::builder()
        .tcp(true)
        .config("replicaof", &at)
        .config("repl-diskless-sync-delay", "0")
        .start();
    let mut connection = primary.connection();
    eventually("the replica has the data", LONG, || {
        let ask = redis::cmd("WAIT")
            .arg(&[1, 10])
            .query::<u64>(&mut connection);
        (ask.unwrap() == 1).then_some(())
    });
    (primary, replica)
}

async fn connect(url: &str, durability: Durability) -> Result<Broker, Error> {
    let config = Config {
        durability,
        ..Config::url(url)
    };
    Broker::connect(&config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submit_that_no_replica_confirms_fails_and_a_repeated_one_does_not_succeed_falsely() {
    let (primary, mut replica) = pair();
    let replicated = async || {
        connect(&primary.url(), Durability::Replicated)
            .await
            .unwrap()
    };
    let queue = replicated().await.task_queue(&name("q"));
    let task = Task::handler("t", "");
    assert_eq!(queue.submit(&task).await.unwrap(), Submitted::New);
    replica.stop();
    // It is there already, so that the call writes nothing: over the same connection, and over a new one.
    for queue in [&queue, &replicated().await.task_queue(&name("q"))] {
        let error = queue.submit(&task).await.unwrap_err();
        assert!(matches!(error, Error::Unconfirmed { .. }), "{error:?}");
    }
    let new = Task::handler("t", "");
    let error = queue.submit(&new).await.unwrap_err().to_string();
    assert!(
        error.contains("no replica") && error.contains("took effect"),
        "{error}"
    );
    assert_eq!(
        queue.status().await.unwrap().ready,
        2,
        "it may exist, as the error says"
    );
    let local = connect(&primary.url(), Durability::Local).await.unwrap();
    let other = local.task_queue(&name("q"));
    other.submit(&Task::handler("t", "")).await.unwrap();
    replica.resume();
    eventually_async("the same submit is confirmed", SOON, async || {
        queue
            .submit(&new)
            .await
            .ok()
            .filter(|answer| *answer == Submitted::Exists)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ends_while_no_replica_confirms_is_finished_once() {
    let (primary, mut replica) = pair();
    let fleet = Fleet::at(primary.url()).await;
    let pmq = pmq_at(&primary.url()).env("PMQ_DURABILITY", "replicated");
    let _worker = fleet.worker_of(&pmq, "-c 1 --allow-commands");
    let script = "record; while ! [ -e $DIR/release ]; do sleep 0.05; done";
    fleet.submit(&fleet.sh(script)).await;
    fleet.wait_for_record(1);
    replica.stop();
    std::fs::write(fleet.path("release"), "").unwrap();
    let submit = ["submit", "-q", fleet.queue.name().as_str(), "--", "true"];
    let finished = pmq.run(submit).expect_code(75);
    assert!(
        finished.error_text().contains("no replica"),
        "{}",
        finished.error_text()
    );
    replica.resume();
    let done = fleet.completions(2).await;
    assert_eq!(
        done.len(),
        2,
        "the task of the failed submit exists, and each ended once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_call_meanwhile_does_not_wait_for_the_replica() {
    let (primary, mut replica) = pair();
    let broker = connect(&primary.url(), Durability::Replicated)
        .await
        .unwrap();
    let queue = broker.task_queue(&name("q"));
    queue.submit(&Task::handler("t", "")).await.unwrap();
    replica.stop();
    let task = Task::handler("t", "");
    let submit = queue.submit(&task);
    let look = async {
        let start = std::time::Instant::now();
        for _ in 0..10 {
            queue.status().await.unwrap();
        }
        start.elapsed()
    };
    let (submitted, looked) = tokio::join!(submit, look);
    assert!(
        submitted.is_err() && looked < Duration::from_millis(900),
        "{looked:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_refuses_a_server_that_does_not_write_at_once() {
    let refusal = async |server: &RedisServer| {
        let error = connect(&server.url(), Durability::Strict)
            .await
            .err()
            .unwrap();
        error.to_string()
    };
    let error = refusal(RedisServer::shared()).await;
    assert!(error.contains("appendonly yes"), "{error}");
    let server = RedisServer::builder().aof(true).start();
    let error = refusal(&server).await;
    assert!(error.contains("appendfsync always"), "{error}");
    let set = redis::cmd("CONFIG")
        .arg(&["SET", "appendfsync", "always"])
        .exec(&mut server.connection());
    set.unwrap();
    let broker = connect(&server.url(), Durability::Strict).await.unwrap();
    let submit = broker
        .task_queue(&name("q"))
        .submit(&Task::handler("t", ""))
        .await;
    assert!(
        matches!(submit, Err(Error::Unconfirmed { .. })),
        "it has no replica"
    );
}

fn write_down(server: &RedisServer, when: &str) {
    let set = redis::cmd("CONFIG")
        .arg(&["SET", "appendfsync", when])
        .exec(&mut server.connection());
    set.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_acknowledges_nothing_by_a_new_primary_that_does_not_write_at_once() {
    let always = |server: Builder| server.aof(true).config("appendfsync", "always");
    let mut group = SentinelGroup::with(always);
    let broker = connect(&group.url(), Durability::Strict).await.unwrap();
    let queue = broker.task_queue(&name("q"));
    queue.submit(&Task::handler("t", "")).await.unwrap();
    for replica in &group.servers()[1..] {
        write_down(replica, "everysec");
    }
    group.servers_mut()[0].kill();
    let primary = group.wait_for_failover(0);
    let task = Task::handler("t", "");
    let error = eventually_async("it answers", LONG, async || {
        let error = queue.submit(&task).await.unwrap_err();
        (!matches!(error, Error::Unreachable { .. })).then_some(error)
    })
    .await;
    let port = group.servers()[primary].port().unwrap();
    let text = error.to_string();
    assert!(
        matches!(error, Error::Unsuitable(_))
            && text.contains(&format!("127.0.0.1:{port}"))
            && text.contains("appendfsync always"),
        "{text}"
    );
    assert_eq!(
        queue.status().await.unwrap().ready,
        1,
        "the call was not even sent"
    );
    write_down(&group.servers()[primary], "always");
    eventually_async("it is acknowledged again", LONG, async || {
        queue.submit(&task).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_works_replicated_on_a_cluster() {
    let cluster = Cluster::with_replicas(3);
    let broker = connect(&cluster.url(), Durability::Replicated)
        .await
        .unwrap();
    for round in 0..4 {
        everyday::words_work(&broker, &format!("w{round}")).await;
        let queue = broker.task_queue(&name(&format!("q{round}")));
        queue.submit(&Task::handler("t", "")).await.unwrap();
    }
}
