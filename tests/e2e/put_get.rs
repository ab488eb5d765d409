//! `pmq put`, `pmq get` and `pmq size`: plain queues between processes, some of which are killed while they wait.

use std::collections::BTreeSet;

use pmq_tests::{Redis, eventually, shared};
use serde_json::json;

use crate::fleet::SOON;
use crate::site::Site;

impl Site {
    /// Waits until `n` stand in a line of the queue `q`.
    fn wait_for_line(&self, line: &str, n: u64) {
        let key = format!("{}:queue:{{q}}:{line}", self.namespace());
        let mut redis = shared().raw();
        eventually(&format!("{n} in the line of {line}"), SOON, || {
            let length: u64 = redis::cmd("ZCARD").arg(&key).query(&mut redis).unwrap();
            (length == n).then_some(())
        });
    }

    fn size(&self) -> String {
        self.pmq.run(["size", "q"]).expect_code(0).text()
    }
}

#[test]
fn what_is_put_is_got_as_it_is_and_in_its_order() {
    let site = Site::new();
    let _ = site
        .pmq
        .run(["put", "q", "apple", "", "-5", "two words"])
        .expect_code(0);
    assert_eq!(site.size(), "4\n");
    let first = site.pmq.run(["get", "q"]).expect_code(0);
    assert_eq!(first.text(), "apple\n");
    let rest = site.pmq.run(["get", "q", "-n", "3"]).expect_code(0);
    assert_eq!(rest.text(), "\n-5\ntwo words\n");
    assert_eq!(site.size(), "0\n");
    let empty = site.pmq.run(["get", "q", "--nowait"]).expect_code(75);
    assert_eq!((empty.text(), empty.error_text()), Default::default());
    let _ = site
        .pmq
        .run(["get", "q", "--timeout", "50ms"])
        .expect_code(124);
}

#[test]
fn standard_input_is_put_line_by_line() {
    let site = Site::new();
    let numbers: Vec<String> = (0..1200).map(|n| n.to_string()).collect();
    let lines = numbers.join("\n") + "\n";
    let _ = site
        .pmq
        .feed(["put", "q", "-"], lines.as_bytes())
        .expect_code(0);
    let got = site
        .pmq
        .run(["get", "q", "-n", "2000", "--nowait"])
        .expect_code(0);
    assert_eq!(got.text(), lines);
}

#[test]
fn a_full_queue_says_how_many_were_put() {
    let site = Site::new();
    let put = |rest: &[&str]| site.pmq.run(["put", "q"].iter().chain(rest));
    let full = put(&["a", "b", "c", "--maxsize", "2", "--nowait"]).expect_code(75);
    assert!(
        full.error_text().contains("queue q is full: put 2 items"),
        "{full:?}"
    );
    let late = put(&["c", "--timeout", "50ms"]).expect_code(124);
    assert!(late.error_text().contains("put 0 items"), "{late:?}");
    let other = put(&["c", "--maxsize", "3"]).expect_code(1);
    assert!(
        other.error_text().contains("queue q has 2, not 3"),
        "{other:?}"
    );
    assert_eq!(site.size(), "2\n");
    let got = site
        .pmq
        .run(["get", "q", "-n", "5", "--nowait"])
        .expect_code(0);
    assert_eq!(got.text(), "a\nb\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_and_the_command_share_queues_by_json() {
    let site = Site::new();
    let queue = site
        .broker()
        .await
        .queue::<String>(&crate::fleet::name("q"));
    let _ = site.pmq.run(["put", "q", "--json", "a\"b"]).expect_code(0);
    assert_eq!(queue.get().await.unwrap(), "a\"b");
    let _ = site.pmq.run(["put", "q", r#""plain JSON""#]).expect_code(0);
    assert_eq!(queue.get().await.unwrap(), "plain JSON");
    queue.put("c".to_owned()).await.unwrap();
    assert_eq!(site.pmq.run(["get", "q"]).expect_code(0).text(), "\"c\"\n");
    queue.put("d".to_owned()).await.unwrap();
    let got = site.pmq.run(["get", "q", "--json"]).expect_code(0).json();
    assert_eq!(got, [json!({"item": "\"d\""})]);
}

#[test]
fn three_producers_and_a_consumer_pass_everything_through_one_place() {
    let site = Site::new();
    let producers: Vec<_> = (0..3)
        .map(|producer| {
            let items = (0..20).map(|n| format!("{producer}.{n}"));
            let put = ["put", "q", "--maxsize", "1"].map(str::to_owned);
            site.pmq.spawn(put.into_iter().chain(items))
        })
        .collect();
    let got = site
        .pmq
        .run(["get", "q", "-n", "60"])
        .expect_code(0)
        .lines();
    for producer in producers {
        let _ = producer.wait().expect_code(0);
    }
    assert_eq!(got.iter().collect::<BTreeSet<_>>().len(), 60);
    for producer in 0..3 {
        let of_one: Vec<_> = got
            .iter()
            .filter(|item| item.starts_with(&format!("{producer}.")))
            .collect();
        let in_order: Vec<_> = (0..20).map(|n| format!("{producer}.{n}")).collect();
        assert_eq!(of_one, in_order.iter().collect::<Vec<_>>());
    }
}

#[test]
fn getters_and_putters_that_are_killed_while_they_wait_disturb_nobody() {
    let site = Site::new();
    let mut dead = site.pmq.spawn(["get", "q"]);
    site.wait_for_line("getters", 1);
    let living = site.pmq.spawn(["get", "q"]);
    site.wait_for_line("getters", 2);
    dead.kill();
    // It is the dead one's turn; when its lease ends, the next gets the item.
    let _ = site
        .pmq
        .run(["put", "q", "first", "--maxsize", "1"])
        .expect_code(0);
    assert_eq!(living.wait().expect_code(0).text(), "first\n");

    let _ = site.pmq.run(["put", "q", "second"]).expect_code(0);
    let mut dead = site.pmq.spawn(["put", "q", "never"]);
    site.wait_for_line("putters", 1);
    let living = site.pmq.spawn(["put", "q", "third"]);
    site.wait_for_line("putters", 2);
    dead.kill();
    let got = site.pmq.run(["get", "q", "-n", "2"]).expect_code(0);
    assert_eq!(got.text(), "second\nthird\n");
    let _ = living.wait().expect_code(0);
    assert_eq!(site.size(), "0\n");
}

#[test]
fn one_that_stood_still_for_longer_than_its_lease_waits_again() {
    let site = Site::new();
    let stopped = site.pmq.spawn(["get", "q"]);
    site.wait_for_line("getters", 1);
    stopped.stop();
    // Its turn, which it does not take: the item goes to who asks next.
    let _ = site.pmq.run(["put", "q", "one"]).expect_code(0);
    assert_eq!(site.pmq.run(["get", "q"]).expect_code(0).text(), "one\n");
    stopped.resume();
    let _ = site.pmq.run(["put", "q", "two"]).expect_code(0);
    assert_eq!(stopped.wait().expect_code(0).text(), "two\n");
}

#[test]
fn an_interrupted_get_takes_nothing_along() {
    let site = Site::new();
    let getter = site.pmq.spawn(["get", "q"]);
    site.wait_for_line("getters", 1);
    getter.interrupt();
    let _ = getter.wait().expect_code(130);
    site.wait_for_line("getters", 0);
    let _ = site.pmq.run(["put", "q", "kept"]).expect_code(0);
    assert_eq!(
        site.pmq.run(["get", "q", "--nowait"]).expect_code(0).text(),
        "kept\n"
    );
}
