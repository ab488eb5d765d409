//! TLS on a Cluster and behind sentinels: between all servers, and from clients that prove who they are.

use std::time::Duration;

use pmq_broker::Config;
use pmq_broker::config::Tls;
use pmq_tests::certificates::{Authority, HERE};
use pmq_tests::redis_server::Builder;
use pmq_tests::{Cluster, SentinelGroup};

use crate::everyday;
use crate::fleet::{Fleet, pmq_at, with_tls};
use crate::load::works_again;

/// A server that believes who has a certificate of this authority, as each server does.
fn guarded(authority: &Authority) -> impl Fn(Builder) -> Builder {
    let identity = authority.issue(&HERE);
    move |builder| builder.tls(&identity, Some(authority))
}

/// Somebody who has one, and believes this authority.
fn member(authority: &Authority) -> Tls {
    let own = authority.issue(&[]);
    Tls {
        ca: Some(authority.file()),
        cert: Some(own.cert),
        key: Some(own.key),
    }
}

async fn fleet(url: String, authority: &Authority) -> Fleet {
    let config = Config {
        tls: member(authority),
        ..Config::url(url)
    };
    Fleet::of(config).await
}

/// Who has no certificate, or believes another authority, is told so in one sentence, with what to do about it.
fn strangers_are_told(url: &str, authority: &Authority) {
    let refused = |tls: Tls, expected: [&str; 2]| {
        let ended = with_tls(pmq_at(url), tls).run(["status"]).expect_code(69);
        let text = ended.error_text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines.len() == 2 && lines[0].contains(expected[0]) && lines[1].contains(expected[1]),
            "{text}"
        );
    };
    let other = Authority::new();
    let misled = Tls {
        ca: Some(other.file()),
        ..member(authority)
    };
    refused(
        misled,
        ["nobody who is trusted here has signed", "--tls-ca"],
    );
    let nameless = Tls {
        ca: Some(authority.file()),
        ..Tls::default()
    };
    refused(nameless, ["wants a client certificate", "--tls-cert"]);
    let forged = Tls {
        ca: Some(authority.file()),
        ..member(&other)
    };
    refused(
        forged,
        ["refused the client certificate", "tls-ca-cert-file"],
    );
}

/// Commands, and every word: calls, blocking waits and subscriptions.
async fn all_works(fleet: &Fleet, prefix: &str) {
    let worker = fleet.worker("-c 2 --allow-commands");
    everyday::commands_work(fleet).await;
    drop(worker);
    for round in 0..3 {
        everyday::words_work(fleet.queue.broker(), &format!("{prefix}{round}")).await;
    }
    everyday::a_pool_works(fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_works_on_a_cluster_over_tls_and_after_a_failover() {
    let authority = Authority::new();
    let mut cluster = Cluster::with(3, guarded(&authority));
    let url = cluster.url();
    let lose_primary = || {
        cluster.nodes_mut()[0].kill();
        let _ = cluster.wait_for_failover(0);
    };
    works_over_a_failover(url, &authority, lose_primary).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_works_behind_sentinels_over_tls_and_after_a_failover() {
    let authority = Authority::new();
    let mut group = SentinelGroup::with(guarded(&authority));
    let url = group.url();
    let lose_primary = || {
        group.servers_mut()[0].kill();
        let _ = group.wait_for_failover(0);
    };
    works_over_a_failover(url, &authority, lose_primary).await;
}

async fn works_over_a_failover(url: String, authority: &Authority, lose_primary: impl FnOnce()) {
    strangers_are_told(&url, authority);
    let fleet = fleet(url.clone(), authority).await;
    all_works(&fleet, "before").await;
    let worker = fleet.worker("-c 1 --allow-commands");
    lose_primary();
    let _ = works_again(&fleet).await;
    drop(worker);
    everyday::words_work(fleet.queue.broker(), "after").await;
    let others = self::fleet(url, authority).await;
    all_works(&others, "others").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_cut_off_is_left_by_the_news_of_encrypted_sentinels() {
    let authority = Authority::new();
    let group = SentinelGroup::with(guarded(&authority));
    let fleet = fleet(group.url(), &authority).await;
    everyday::words_work(fleet.queue.broker(), "before").await;
    group.isolate(0);
    let primary = group.wait_for_failover(0);
    let mut there = group.servers()[primary].connection();
    let queue = fleet.queue.name();
    let fruit = format!("pmq:{{{queue}/0}}:tasks");
    let task = pmq_broker::Task::handler("nobody", "");
    pmq_tests::eventually_async(
        "submits arrive at the new primary",
        Duration::from_secs(10),
        async || {
            let _ = fleet.queue.submit(&task).await;
            let exists: bool = redis::cmd("EXISTS").arg(&fruit).query(&mut there).unwrap();
            exists.then_some(())
        },
    )
    .await;
}
