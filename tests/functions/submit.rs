//! submit: new tasks in, all of a call or none.

use pmq_broker::{Task, envelope};

use crate::call::{Call, texts};
use crate::seed::{cancel, finish, name, submit, submit_with_due, task};
use crate::shard::{Shard, id, padded};

#[test]
fn a_plain_task_becomes_ready_and_wakes_one_worker() {
    let shard = Shard::new();
    let call = submit(&[task("a")]);
    let answer = shard.expect(
        &call,
        "+ meta largest: 53
         + meta layout: 1
         + ready:5: a
         + tasks a
         + wake: 1",
    );
    assert_eq!(texts(&answer), ["ok", "n"]);
    assert_eq!(texts(&shard.expect_nothing(&call)), ["ok", "e"]);
}

#[test]
fn tasks_of_one_call_stand_in_order_by_priority() {
    let shard = Shard::new();
    shard.submitted(&["z"]);
    let tasks = [("a", 5), ("b", 9), ("c", 0), ("d", 9)].map(|(word, priority)| Task {
        priority,
        ..task(word)
    });
    let call = submit(&tasks);
    shard.expect(
        &call,
        "- ready:5: z
         - wake: 1
         + ready:0: c
         + ready:5: z a
         + ready:9: b d
         + tasks a
         + tasks b
         + tasks c
         + tasks d
         + wake: 4",
    );
    assert_eq!(texts(&shard.expect_nothing(&call)), ["ok", "eeee"]);
}

#[test]
fn a_delayed_task_is_scheduled_by_the_brokers_clock_and_wakes_a_worker_as_the_earliest() {
    let shard = Shard::new();
    shard.submitted(&["z"]);
    shard.redis("DEL", &[shard.key("wake")]);
    let call = submit_with_due(&[task("a")], &["+30000"]);
    let answer = shard.expect(
        &call,
        "+ scheduled a: +30s p5
         + tasks a
         + wake: 1",
    );
    assert_eq!(texts(&answer), ["ok", "n"]);
    assert_eq!(texts(&shard.expect_nothing(&call)), ["ok", "e"]);
}

#[test]
fn a_task_that_is_due_later_than_the_earliest_wakes_nobody() {
    let shard = Shard::new();
    shard.call(&submit_with_due(&[task("a")], &["+30000"]));
    shard.redis("DEL", &[shard.key("wake")]);
    let at = (shard.now_ms() + 60_000).to_string();
    shard.expect(
        &submit_with_due(&[task("b")], &[&at]),
        "+ scheduled b: +60s p5
         + tasks b",
    );
    shard.expect(
        &submit_with_due(&[task("c")], &["+20000"]),
        "+ scheduled c: +20s p5
         + tasks c
         + wake: 1",
    );
}

#[test]
fn a_thousand_ready_tasks_push_no_more_than_256_tokens() {
    let shard = Shard::new();
    for chunk in 0..2 {
        let words: Vec<String> = (0..500).map(|i| format!("{chunk}-{i}")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        shard.submitted(&words);
        assert_eq!(shard.state().list("wake").len(), 256);
    }
}

#[test]
fn an_id_that_stands_for_other_bytes_is_a_conflict_and_nothing_of_the_call_is_taken() {
    let shard = Shard::new();
    shard.submitted(&["a"]);
    let other = Task::handler("t", "other").with_id(id("a"));
    let answer = shard.expect_nothing(&submit(&[task("b"), other.clone()]));
    assert_eq!(texts(&answer), ["conflict", "2"]);
    // Within one call too, and against a task that has ended.
    let twice = submit(&[
        Task::handler("t", "x").with_id(id("c")),
        Task::handler("t", "y").with_id(id("c")),
    ]);
    assert_eq!(texts(&shard.expect_nothing(&twice)), ["conflict", "2"]);
    let held = shard.claimed("w", 1);
    shard.call(&finish(&[(&held[0], "o")]));
    assert_eq!(
        texts(&shard.expect_nothing(&submit(&[other]))),
        ["conflict", "1"]
    );
}

#[test]
fn the_same_task_twice_in_a_call_is_queued_once() {
    let shard = Shard::new();
    let answer = shard.call(&submit(&[task("a"), task("a")]));
    assert_eq!(texts(&answer), ["ok", "ne"]);
    assert_eq!(shard.state().list("ready:5").len(), 1);
}

#[test]
fn a_task_that_has_ended_is_not_run_again_while_its_record_is_kept() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    shard.call(&finish(&[(&held, "o")]));
    let answer = shard.expect(
        &submit(&[task("a"), task("b")]),
        "+ ready:5: b
         + tasks b
         + wake: 1",
    );
    assert_eq!(texts(&answer), ["ok", "dn"]);
    shard.redis(
        "DEL",
        &[shard.key(&format!(
            "results:{}",
            shard.state().meta("buckets").unwrap()
        ))],
    );
    assert_eq!(texts(&shard.call(&submit(&[task("a")]))), ["ok", "n"]);
}

#[test]
fn a_given_id_is_looked_up_in_all_buckets_a_fresh_one_in_the_two_newest() {
    let shard = Shard::new();
    shard.set_meta("results_max", 8); // one record a bucket
    for word in ["a", "b", "c"] {
        let held = shard.running(word, "w");
        shard.call(&finish(&[(&held, "o")]));
    }
    let ask = |word: &str, given: &str| {
        let call = Call::new("submit")
            .n(1)
            .arg(given)
            .arg("1")
            .arg(padded(word));
        texts(&shard.call(&call.arg(envelope::encode(&task(word)).unwrap())))[1].clone()
    };
    assert_eq!(["a", "b", "c"].map(|word| ask(word, "1")), ["d", "d", "d"]);
    assert_eq!(["b", "c", "a"].map(|word| ask(word, "0")), ["d", "d", "n"]);
}

#[test]
fn a_cancelled_id_that_is_still_on_the_list_is_ended_whoever_made_it() {
    let shard = Shard::new();
    shard.submitted(&["a"]);
    shard.call(&cancel(&["a"]));
    let bucket = format!("results:{}", shard.state().meta("buckets").unwrap());
    shard.redis("DEL", &[shard.key(&bucket)]); // its record is forgotten, the hole is there
    for given in ["0", "1"] {
        let call = Call::new("submit")
            .n(1)
            .arg(given)
            .arg("1")
            .arg(padded("a"));
        let call = call.arg(envelope::encode(&task("a")).unwrap());
        assert_eq!(texts(&shard.expect_nothing(&call)), ["ok", "d"]);
    }
    assert!(shard.claimed("w", 5).is_empty());
}

#[test]
fn a_queue_at_its_maxsize_takes_a_call_whole_or_not_at_all() {
    let shard = Shard::new();
    shard.set_meta("maxsize", 2);
    shard.submitted(&["a"]);
    shard.call(&submit_with_due(&[task("b")], &["+30000"]));
    let answer = shard.expect_nothing(&submit(&[task("c")]));
    assert_eq!(texts(&answer), ["full", "tasks", "2"]);
    // What is known needs no room, and what runs takes none.
    assert_eq!(
        texts(&shard.expect_nothing(&submit(&[task("a")]))),
        ["ok", "e"]
    );
    shard.claimed("w", 1);
    assert_eq!(
        texts(&shard.expect_nothing(&submit(&[task("c"), task("d")]))),
        ["full", "tasks", "2"]
    );
    assert_eq!(texts(&shard.call(&submit(&[task("c")]))), ["ok", "n"]);
}

#[test]
fn a_completion_queue_at_its_limit_takes_no_more_tasks() {
    let shard = Shard::new();
    shard.set_meta("completions_max", 1);
    shard.redis("RPUSH", &[shard.key("done:full"), "x".to_owned()]);
    let full = task("a").with_completions(name("full"));
    let answer = shard.expect_nothing(&submit(&[task("b"), full]));
    assert_eq!(texts(&answer), ["full", "completions", "1"]);
    assert_eq!(
        texts(&shard.call(&submit(&[task("b").with_completions(name("free"))]))),
        ["ok", "n"]
    );
    shard.set_meta("completions", "full");
    let answer = shard.expect_nothing(&submit(&[task("c")]));
    assert_eq!(texts(&answer), ["full", "completions", "1"]);
}

#[test]
fn malformed_calls_are_refused_whole() {
    let shard = Shard::new();
    let good = envelope::encode(&task("a")).unwrap();
    let one = |id: &[u8], envelope: &[u8]| {
        Call::new("submit")
            .n(1)
            .arg("1")
            .arg("1")
            .arg(id)
            .arg(envelope)
    };
    let mut priority = good.to_vec();
    priority[3] = 10;
    let mut short = good[..27].to_vec();
    short[1] = 4; // a completion queue's name, which is missing
    let calls = [
        one(b"short", &good),
        one(&padded("a"), b""),
        one(&padded("a"), &good[..26]),
        one(&padded("a"), &priority),
        one(&padded("a"), &short),
        one(&padded("a"), &good).arg("soon"),
        one(&padded("a"), &good).arg("nan"),
        one(&padded("a"), &good).arg("-1"),
        Call::new("submit")
            .n(2)
            .arg("1")
            .arg("1")
            .arg(padded("a"))
            .arg(&good),
        Call::new("submit").n(0).arg("1").arg("1"),
        Call::new("submit").n(501).arg("1").arg("1"),
        Call::new("submit").n(1).arg("1"),
        Call::new("submit"),
    ];
    for call in calls {
        shard.expect_error(&call, "PMQMALFORMED");
    }
}
