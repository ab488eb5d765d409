//! start and `list_started`: where processes run, and that they end in their own way.

use redis::Value;

use crate::call::{Call, bytes, items, text, texts};
use crate::seed::{
    Held, by_id, cancel, claim_with, claimed, finish, process, reclaim, refuse, release, start,
    submit, task,
};
use crate::shard::{Shard, padded};

const STARTED: &str = r#"{"pid":7,"host":"h","worker":"w","started_ms":5}"#;

/// Submits and claims a process.
fn running(shard: &Shard, word: &str, worker: &str) -> Held {
    shard.call(&submit(&[process(word)]));
    shard.claimed(worker, 1).remove(0)
}

#[test]
fn a_run_says_where_it_is_as_long_as_it_is_held() {
    let shard = Shard::new();
    let held = running(&shard, "p", "w");
    let call = start(&held, 7);
    let answer = shard.expect(&call, &format!("+ started p: {STARTED}"));
    assert_eq!(texts(&answer), ["ok"]);
    assert_eq!(texts(&shard.expect_nothing(&call)), ["ok"]);
    shard.call(&finish(&[(&held, "o")]));
    assert_eq!(shard.state().hash("started").len(), 0);
    assert_eq!(texts(&shard.expect_nothing(&call)), ["lost"]);
}

#[test]
fn who_watches_learns_of_the_start_and_of_the_end() {
    let shard = Shard::new();
    let held = running(&shard, "p", "w");
    let watch = by_id("watch", &["p"]);
    assert_eq!(items(&shard.call(&watch)), [Value::BulkString(vec![])]);
    shard.call(&start(&held, 7));
    assert_eq!(texts(&shard.call(&watch)), [STARTED]);
    assert_eq!(shard.state().set("watchers").len(), 1, "until its end");
    let found = items(&shard.call(&by_id("find", &["p"])));
    assert_eq!(text(&found[6]), STARTED);
}

#[test]
fn the_start_is_published_once() {
    let shard = Shard::new();
    let held = running(&shard, "p", "w");
    let mut connection = pmq_tests::RedisServer::shared().connection();
    let mut news = connection.as_pubsub();
    news.subscribe(shard.key("ended")).unwrap();
    shard.call(&start(&held, 6)); // nobody watches yet
    shard.call(&by_id("watch", &["p"]));
    for _ in 0..2 {
        shard.call(&start(&held, 7));
    }
    shard.call(&finish(&[(&held, "o")]));
    for _ in 0..2 {
        let message = news.get_message().unwrap();
        assert_eq!(message.get_payload_bytes(), padded("p"));
    }
    let soon = std::time::Duration::from_millis(1);
    news.set_read_timeout(Some(soon)).unwrap();
    assert!(news.get_message().is_err(), "the start, the end, no more");
}

#[test]
fn a_failed_process_is_no_dead_letter() {
    for outcome in ["f", "g", "d"] {
        let shard = Shard::new();
        let held = running(&shard, "p", "w");
        shard.call(&start(&held, 7));
        let answer = shard.call(&finish(&[(&held, outcome)]));
        assert_eq!(text(&answer), "o");
        assert_eq!(
            text(&shard.expect_nothing(&finish(&[(&held, outcome)]))),
            "a"
        );
        let state = shard.state();
        assert_eq!(state.hash("tasks").len() + state.hash("attempts").len(), 0);
        assert_eq!(state.sorted("dead").len() + state.hash("started").len(), 0);
    }
}

#[test]
fn a_process_whose_worker_is_lost_ends_with_what_is_known_of_it() {
    let shard = Shard::new();
    let held = running(&shard, "p", "w");
    shard.call(&start(&held, 7));
    shard.expire("w");
    shard.expect(
        &reclaim(),
        &format!(
            "- claims w: claim 1 p
             - running p: w T1 run 1
             - started p: {STARTED}
             - tasks p
             - workers w: -60s
             + meta buckets: B1
             + meta cursor: 0
             + meta run: run
             + meta turn: 2
             + B1 p: dead (its worker or host was lost while it ran)
             + B1 expires +4050s",
        ),
    );
    let record = items(&shard.call(&by_id("watch", &["p"])));
    let record = bytes(&record[0]);
    assert_eq!(record[2..6], (-9_i32).to_le_bytes());
    assert!(String::from_utf8_lossy(&record).contains(r#""pid":7,"host":"h""#));
}

#[test]
fn what_is_handed_back_is_no_longer_told_of() {
    let shard = Shard::new();
    let released = running(&shard, "a", "w");
    shard.call(&start(&released, 7));
    assert_eq!(text(&shard.call(&release(&[&released]))), "o");
    assert_eq!(shard.state().hash("started").len(), 0);
    let again = shard.claimed("w", 1).remove(0);
    shard.call(&start(&again, 7));
    shard.call(&cancel(&["a"]));
    assert_eq!(text(&shard.call(&release(&[&again]))), "c");
    assert_eq!(shard.state().hash("started").len(), 0);
    let refused = running(&shard, "b", "w");
    shard.call(&start(&refused, 7));
    assert_eq!(text(&shard.call(&refuse(&[&refused]))), "r");
    assert_eq!(shard.state().hash("started").len(), 0);
}

#[test]
fn a_process_that_nobody_can_run_ends() {
    let shard = Shard::new();
    let held = running(&shard, "p", "w");
    let long_ago = shard.now_ms() - 301_000;
    let row = [vec![0; 12], long_ago.to_le_bytes().to_vec(), vec![19, 0]].concat();
    shard.redis(
        "HSET",
        &[shard.key("attempts").as_bytes(), &padded("p"), &row],
    );
    assert_eq!(text(&shard.call(&refuse(&[&held]))), "e");
    let state = shard.state();
    assert_eq!(state.hash("tasks").len() + state.hash("attempts").len(), 0);
    assert_eq!(state.sorted("dead").len(), 0);
}

#[test]
fn only_a_queue_that_it_names_gets_its_completion() {
    let shard = Shard::new();
    let mut named = process("named");
    named.completions = Some(crate::seed::name("mine"));
    shard.call(&submit(&[process("plain"), named, task("task")]));
    let held = claimed(&shard.call(&claim_with("w", 1, 3, ["done", "1", "1"]))).tasks;
    shard.call(&finish(&[
        (&held[0], "o"),
        (&held[1], "o"),
        (&held[2], "o"),
    ]));
    let state = shard.state();
    assert_eq!(
        (state.list("done:done").len(), state.list("done:mine").len()),
        (1, 1)
    );
    shard.set_meta("completions", "done");
    shard.call(&submit(&[process("waits")]));
    shard.call(&cancel(&["waits"]));
    assert_eq!(shard.state().list("done:done").len(), 1);
}

#[test]
fn processes_are_listed_by_page() {
    let shard = Shard::new();
    for word in ["a", "b"] {
        let held = running(&shard, word, "w");
        shard.call(&start(&held, 7));
    }
    shard.running("task", "w");
    let answer = items(&shard.expect_nothing(&Call::new("list_started").n(0).n(500)));
    assert_eq!(text(&answer[0]), "0");
    let page = items(&answer[1]);
    assert_eq!(page.len(), 8);
    assert_eq!(text(&page[1]), STARTED);
    assert!(text(&page[2]).contains(r#""name":"t""#));
    assert_eq!(
        (text(&page[3]), text(&page[7])),
        (String::new(), String::new())
    );
}

#[test]
fn a_process_is_lost_once_its_workers_lease_has_ended() {
    let shard = Shard::new();
    for (word, worker) in [("p", "w"), ("q", "v")] {
        let held = running(&shard, word, worker);
        shard.call(&start(&held, 7));
    }
    shard.expire("w");
    let is_lost = |word| text(&items(&shard.call(&by_id("find", &[word])))[7]);
    assert_eq!(
        (is_lost("p"), is_lost("q")),
        ("1".to_owned(), String::new())
    );
    let answer = items(&shard.expect_nothing(&Call::new("list_started").n(0).n(500)));
    let page = items(&answer[1]);
    for row in page.chunks(4) {
        let expected = if bytes(&row[0]) == padded("p") {
            "1"
        } else {
            ""
        };
        assert_eq!(text(&row[3]), expected);
    }
}
