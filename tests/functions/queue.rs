//! configure and purge: what operators do to a queue.

use pmq_broker::Task;

use crate::call::{Call, texts};
use crate::seed::{cancel, finish, name, submit, submit_with_due, task};
use crate::shard::Shard;

fn configure(pairs: &[&str]) -> Call {
    Call::new("configure").args(pairs)
}

fn purge() -> Call {
    Call::new("purge").n(500)
}

#[test]
fn settings_are_written_and_an_empty_one_is_the_default_again() {
    let shard = Shard::new();
    let call = configure(&["maxsize", "5", "completions", "done"]);
    let answer = shard.expect(
        &call,
        "+ meta completions: done
         + meta layout: 1
         + meta maxsize: 5",
    );
    assert_eq!(texts(&answer), ["ok"]);
    shard.expect_nothing(&call);
    shard.expect(&configure(&["maxsize", ""]), "- meta maxsize: 5");
    shard.expect_nothing(&configure(&["maxsize", ""]));
}

#[test]
fn resuming_wakes_the_workers() {
    let shard = Shard::new();
    shard.call(&configure(&["paused", "1"]));
    let resume = configure(&["paused", ""]);
    shard.expect(
        &resume,
        "- meta paused: 1
         + wake: 256",
    );
    shard.expect_nothing(&resume);
}

#[test]
fn unknown_settings_and_numbers_that_are_none_are_refused_whole() {
    let shard = Shard::new();
    for pairs in [
        &["maxsize", "1", "colour", "red"][..],
        &["token", "1"],
        &["maxsize", "many"],
        &["retention", "-1"],
        &["results_max", "1e9"],
        &["maxsize"],
        &["|", "1"],
    ] {
        shard.expect_error(&configure(pairs), "PMQSETTING");
    }
}

#[test]
fn another_retention_begins_with_the_next_bucket() {
    let shard = Shard::new();
    shard.call(&configure(&["retention", "80000"]));
    let held = shard.running("a", "w");
    shard.call(&finish(&[(&held, "o")]));
    let call = configure(&["retention", "800000"]);
    shard.expect(
        &call,
        "- meta buckets: B1
         - meta retention: 80000
         + meta buckets: B2 B1
         + meta retention: 800000",
    );
    shard.expect_nothing(&call);
    let held = shard.running("b", "w");
    shard.expect(
        &finish(&[(&held, "o")]),
        "- running b: w T2
         - tasks b
         + B2 b: ok T2
         + B2 expires +900s",
    );
}

#[test]
fn everything_that_waits_is_cancelled_and_nothing_else() {
    let shard = Shard::new();
    shard.running("running", "w");
    shard.call(&submit(&[
        Task {
            priority: 9,
            ..task("a")
        },
        task("b"),
        task("hole"),
    ]));
    shard.call(&submit_with_due(
        &[task("c").with_completions(name("done"))],
        &["+30000"],
    ));
    shard.call(&cancel(&["hole"]));
    let mut counts = Vec::new();
    loop {
        let answer = texts(&shard.call(&purge()));
        counts.push(answer[0].clone());
        if answer[1] == "0" {
            break;
        }
    }
    assert_eq!(counts, ["1", "1", "1", "0"]);
    let lines = shard.lines();
    assert!(lines.contains(&"running running: w T1".to_owned()));
    for word in ["a", "b", "c (verdict)"] {
        let (word, rest) = word
            .split_once(' ')
            .map_or((word, String::new()), |(w, r)| (w, format!(" {r}")));
        assert!(
            lines.contains(&format!("B1 {word}: cancelled{rest}")),
            "{lines:#?}"
        );
    }
    assert!(lines.contains(&"done:done: c cancelled".to_owned()));
    assert!(
        !lines
            .iter()
            .any(|line| line.starts_with("ready") || line.starts_with("holes"))
    );
    assert_eq!(texts(&shard.expect_nothing(&purge())), ["0", "0"]);
}

#[test]
fn a_purge_reads_no_more_than_a_mebibyte_and_one_body_a_call() {
    let shard = Shard::new();
    for word in ["a", "b", "c"] {
        let body = vec![b'x'; 700_000].into();
        shard.call(&submit(&[Task { body, ..task(word) }]));
    }
    assert_eq!(texts(&shard.call(&purge())), ["2", "1"]);
    assert_eq!(texts(&shard.call(&purge())), ["1", "1"]);
    assert_eq!(texts(&shard.call(&purge())), ["0", "0"]);
}

#[test]
fn a_purge_of_a_queue_with_a_maxsize_wakes_a_producer() {
    let shard = Shard::new();
    shard.set_meta("maxsize", 2);
    shard.submitted(&["hole"]);
    shard.call(&cancel(&["hole"]));
    shard.redis("DEL", &[shard.key("wake.room")]);
    assert_eq!(texts(&shard.call(&purge())), ["0", "1"]);
    assert!(
        shard.state().list("wake.room").is_empty(),
        "a hole is no room"
    );
    shard.submitted(&["a", "b"]);
    for _ in 0..2 {
        shard.call(&purge());
        assert_eq!(shard.state().list("wake.room").len(), 1);
    }
}

#[test]
fn suspects_and_unreadable_tasks_are_purged_too() {
    let shard = Shard::new();
    shard.submitted(&["a"]);
    for _ in 0..2 {
        shard.claimed("w", 1);
        shard.crash("w");
    }
    shard.redis(
        "HSET",
        &[
            shard.key("tasks").as_bytes(),
            &crate::shard::padded("junk"),
            b"junk",
        ],
    );
    shard.redis(
        "RPUSH",
        &[
            shard.key("ready:3").as_bytes(),
            &crate::shard::padded("junk"),
        ],
    );
    shard.redis("RPUSH", &[shard.key("ready:3").as_bytes(), b"no id"]);
    while texts(&shard.call(&purge()))[1] == "1" {}
    let state = shard.state();
    assert!(
        state.hash("tasks").is_empty()
            && state.list("suspects").is_empty()
            && state.list("ready:3").is_empty()
    );
}

#[test]
fn an_unknown_setting_is_named_without_the_bytes_that_no_text_has() {
    let shard = Shard::new();
    let call = Call::new("configure").arg(b"max\xff\n").arg("1");
    shard.expect_error(&call, "max?? is no setting");
}
