//! `log_append`: what a process printed, each byte once, within bounds.

use redis::Value;

use crate::call::{Call, texts};
use crate::seed::{Held, finish, join, leave, log_append, log_read, reclaim};
use crate::shard::{Shard, id};
use crate::state::Content;

/// The part of the key of a log.
fn log(word: &str) -> String {
    format!("log:{}", id(word))
}

/// The numbers of the entries of a log.
fn numbers(shard: &Shard, word: &str) -> Vec<String> {
    match shard.state().0.get(&log(word)) {
        Some((Content::Stream(entries), _)) => entries.iter().map(|e| e.0.clone()).collect(),
        None => Vec::new(),
        Some(other) => panic!("no log: {other:?}"),
    }
}

fn end(answer: &Value) -> String {
    texts(answer)[1].clone()
}

/// One piece of so many bytes after the first `offset`.
fn bytes(held: &Held, offset: u64, size: usize) -> Call {
    log_append(held, offset, &[("o", &"x".repeat(size))])
}

#[test]
fn pieces_are_numbered_by_where_they_end_and_added_once() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    let call = log_append(&held, 0, &[("o", "out."), ("e", "err...")]);
    let key = log("a");
    let answer = shard.expect(
        &call,
        &format!(
            "+ log.sizes a: 10
             + log.sizes all: 10
             + log.sizes expires +4500s
             + {key} 4-0: o out
             + {key} 10-0: e err
             + {key} expires +4500s
             + logs a: +4500s
             + logs expires +4500s"
        ),
    );
    assert_eq!(texts(&answer), ["ok", "10", "4500000"]);
    assert_eq!(end(&shard.expect_nothing(&call)), "10");
    let end_of_log = log_append(&held, 10, &[("x", "")]);
    shard.expect(&end_of_log, &format!("+ {key} 10-1: x"));
    shard.expect_nothing(&end_of_log);
    shard.expect_nothing(&call);
}

#[test]
fn a_piece_that_has_grown_since_it_was_sent_is_added_from_where_it_ended() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    shard.call(&log_append(&held, 0, &[("o", "one ")]));
    shard.call(&log_append(&held, 0, &[("o", "one two "), ("o", "three")]));
    let state = shard.state();
    let (Content::Stream(entries), _) = &state.0[&log("a")] else {
        panic!("no log")
    };
    let all: Vec<u8> = entries.iter().flat_map(|entry| entry.2.clone()).collect();
    assert_eq!(all, b"one two three");
    assert_eq!(numbers(&shard, "a"), ["4-0", "8-0", "13-0"]);
}

#[test]
fn what_was_dropped_before_it_came_leaves_a_gap_in_the_numbers() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    shard.call(&log_append(&held, 0, &[("o", "a")]));
    let answer = shard.call(&log_append(&held, 100, &[("o", "b"), ("x", "")]));
    assert_eq!(end(&answer), "101");
    assert_eq!(numbers(&shard, "a"), ["1-0", "101-0", "101-1"]);
}

#[test]
fn only_the_run_that_holds_the_task_may_write() {
    let shard = Shard::new();
    let first = shard.running("a", "w");
    shard.call(&log_append(&first, 0, &[("o", "first")]));
    shard.crash("w");
    let late = log_append(&first, 5, &[("o", "late")]);
    assert_eq!(texts(&shard.expect_nothing(&late)), ["lost"]);
    let second = shard.claimed("v", 1).remove(0);
    assert_eq!(texts(&shard.expect_nothing(&late)), ["lost"]);
    // The second run asks where the first one ended, and goes on there.
    assert_eq!(end(&shard.call(&log_append(&second, 0, &[]))), "5");
    shard.call(&log_append(&second, 5, &[("o", "second")]));
    assert_eq!(numbers(&shard, "a"), ["5-0", "11-0"]);
    shard.call(&finish(&[(&second, "o")]));
    let late = log_append(&second, 11, &[("o", "late")]);
    assert_eq!(texts(&shard.expect_nothing(&late)), ["lost"]);
}

#[test]
fn a_log_that_nothing_was_printed_to_costs_nothing() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    let answer = shard.expect_nothing(&log_append(&held, 0, &[]));
    assert_eq!(end(&answer), "0");
    shard.call(&log_append(&held, 0, &[("x", "")]));
    assert_eq!(numbers(&shard, "a"), ["0-1"], "and its end is told");
}

#[test]
fn a_log_beyond_its_limit_loses_the_oldest_pieces() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    for i in 0..20 {
        shard.call(&bytes(&held, i * 1_000_000, 1_000_000));
    }
    assert_eq!(
        numbers(&shard, "a"),
        [
            "16000000-0",
            "17000000-0",
            "18000000-0",
            "19000000-0",
            "20000000-0"
        ],
        "4 MiB and the piece that they begin in"
    );
    let sizes = shard.state().hash("log.sizes");
    assert_eq!(sizes[&b"all"[..]], b"4194304");
    shard.set_meta("log_max", 2_000_000);
    shard.call(&bytes(&held, 20_000_000, 10));
    assert_eq!(
        numbers(&shard, "a"),
        ["19000000-0", "20000000-0", "20000010-0"]
    );
}

#[test]
fn a_great_many_tiny_pieces_are_bounded_by_their_number() {
    let shard = Shard::new();
    shard.set_meta("log_max", 6400);
    let held = shard.running("a", "w");
    for i in 0..20 {
        shard.call(&log_append(&held, i * 100, &[("o", "x"); 100]));
    }
    let count = numbers(&shard, "a").len();
    // A stream goes in nodes of 100 entries.
    assert!((100..300).contains(&count), "{count}");
}

#[test]
fn beyond_the_limit_of_all_the_oldest_logs_go_and_ended_tasks_first() {
    let shard = Shard::new();
    shard.set_meta("logs_max", 30);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|word| shard.running(word, "w"));
    for held in [&a, &b, &c] {
        shard.call(&bytes(held, 0, 10));
        shard.redis(
            "ZINCRBY",
            &[&shard.key("logs").into_bytes()[..], b"-9", &a.id],
        );
    }
    shard.call(&finish(&[(&b, "o")]));
    shard.call(&bytes(&d, 0, 10));
    let left = |words: &[&str]| {
        words
            .iter()
            .map(|w| numbers(&shard, w).len())
            .collect::<Vec<_>>()
    };
    assert_eq!(left(&["a", "b", "c", "d"]), [1, 0, 1, 1], "b had ended");
    shard.call(&bytes(&d, 10, 10));
    assert_eq!(left(&["a", "b", "c", "d"]), [0, 0, 1, 2], "a is the oldest");
    shard.call(&bytes(&d, 20, 100));
    assert_eq!(
        left(&["a", "b", "c", "d"]),
        [0, 0, 0, 3],
        "its own never goes"
    );
    let sizes = shard.state().hash("log.sizes");
    assert_eq!(sizes[&b"all"[..]], b"120");
    assert_eq!(shard.state().sorted("logs").len(), 1);
}

#[test]
fn what_has_expired_is_counted_no_more() {
    let shard = Shard::new();
    let [a, b] = ["a", "b"].map(|word| shard.running(word, "w"));
    shard.call(&bytes(&a, 0, 10));
    shard.redis("UNLINK", &[shard.key(&log("a"))]);
    shard.redis("ZADD", &[&shard.key("logs").into_bytes()[..], b"1", &a.id]);
    shard.call(&bytes(&b, 0, 5));
    let sizes = shard.state().hash("log.sizes");
    assert_eq!((sizes[&b"all"[..]].as_slice(), sizes.len()), (&b"5"[..], 2));
    // A log that is begun anew is counted anew.
    shard.call(&bytes(&a, 10, 7));
    assert_eq!(shard.state().hash("log.sizes")[&b"all"[..]], b"12");
}

#[test]
fn a_log_is_kept_for_the_retention_since_the_last_call() {
    let shard = Shard::new();
    shard.set_meta("retention", 80_000);
    let held = shard.running("a", "w");
    shard.call(&log_append(&held, 0, &[("o", "a")]));
    shard.redis("PEXPIRE", &[shard.key(&log("a")), "1000".to_owned()]);
    let key = log("a");
    let changed = format!("- {key} expires +10s\n+ {key} expires +100s");
    shard.expect(&log_append(&held, 0, &[]), &changed);
}

#[test]
fn neither_the_end_of_a_task_nor_the_loss_of_its_worker_takes_its_log() {
    let shard = Shard::new();
    let [a, b] = ["a", "b"].map(|word| shard.running(word, "w"));
    for held in [&a, &b] {
        shard.call(&log_append(held, 0, &[("o", "a")]));
    }
    shard.call(&finish(&[(&a, "o")]));
    shard.expire("w");
    shard.call(&reclaim());
    for word in ["a", "b"] {
        assert_eq!(numbers(&shard, word), ["1-0"]);
    }
}

#[test]
fn a_process_waits_for_its_reader_as_long_as_that_lives() {
    let shard = Shard::new();
    shard.set_meta("log_max", 100);
    shard.call(&join("reader", ""));
    let held = shard.running("a", "w");
    shard.call(&log_read(&held, "reader", 0));
    shard.call(&bytes(&held, 0, 50));
    shard.call(&bytes(&held, 50, 30));
    let call = bytes(&held, 80, 30);
    assert_eq!(texts(&shard.expect_nothing(&call)), ["full"]);
    let only_asks = log_append(&held, 80, &[]);
    assert_eq!(end(&shard.call(&only_asks)), "80", "that it may always");
    shard.call(&log_read(&held, "reader", 30));
    assert_eq!(end(&shard.call(&call)), "110");
    assert_eq!(texts(&shard.call(&bytes(&held, 110, 1))), ["full"]);
    shard.call(&leave("reader", true));
    assert_eq!(end(&shard.call(&bytes(&held, 110, 1))), "111");
}

#[test]
fn a_reader_goes_with_the_log() {
    let shard = Shard::new();
    let old = shard.running("old", "w");
    shard.call(&log_read(&old, "reader", 0));
    shard.call(&bytes(&old, 0, 10));
    shard.call(&finish(&[(&old, "o")]));
    shard.set_meta("logs_max", 15);
    let new = shard.running("new", "w");
    shard.call(&bytes(&new, 0, 10));
    let sizes = shard.state().hash("log.sizes");
    let fields: Vec<&[u8]> = sizes.keys().map(Vec::as_slice).collect();
    assert_eq!(fields, [b"all".as_slice(), &new.id]);
}

#[test]
fn a_reader_whose_process_never_ran_expires() {
    let shard = Shard::new();
    let [never, silent, other] = ["never", "silent", "other"].map(|word| shard.running(word, "w"));
    shard.expect(
        &log_read(&never, "reader", 0),
        "+ log.sizes reader:never: reader..........0
         + log.sizes expires +4500s
         + logs never: +4500s
         + logs expires +4500s",
    );
    shard.call(&log_read(&silent, "reader", 0));
    let logs = shard.key("logs").into_bytes();
    for held in [&never, &silent] {
        shard.redis("ZADD", &[&logs[..], b"1", &held.id]);
    }
    // The worker of one that runs asks for it, and keeps its reader.
    shard.call(&log_append(&silent, 0, &[]));
    let drops = log_read(&other, "reader", 0);
    shard.call(&drops);
    let fields = || {
        let sizes = shard.state().hash("log.sizes");
        sizes.into_keys().collect::<Vec<_>>()
    };
    let reader = |held: &Held| [b"reader:", &held.id[..]].concat();
    assert_eq!(fields(), [reader(&other), reader(&silent)]);
    shard.set_meta("logs_max", 5);
    shard.call(&bytes(&never, 0, 10));
    assert!(
        fields().contains(&reader(&silent)),
        "to drop it would free nothing"
    );
}

#[test]
fn what_a_reader_finds_expired_is_counted_no_more() {
    let shard = Shard::new();
    let [old, new] = ["old", "new"].map(|word| shard.running(word, "w"));
    shard.call(&bytes(&old, 0, 10));
    shard.redis(
        "ZADD",
        &[&shard.key("logs").into_bytes()[..], b"1", &old.id],
    );
    shard.call(&log_read(&new, "reader", 0));
    let sizes = shard.state().hash("log.sizes");
    assert_eq!((sizes[&b"all"[..]].as_slice(), sizes.len()), (&b"0"[..], 2));
}
