//! watch, inspect, find and `list_dead`: views.

use pmq_broker::envelope;
use redis::Value;

use crate::call::{Call, bytes, items, text, texts};
use crate::seed::{by_id, claim_with, claimed, completion, finish, submit_with_due, task};
use crate::shard::{Shard, padded};

#[test]
fn watching_tells_how_tasks_ended_and_remembers_who_lives() {
    let shard = Shard::new();
    let ended = shard.running("ended", "w");
    let dead = shard.running("dead", "w");
    shard.call(&finish(&[(&ended, "o"), (&dead, "g")]));
    shard.running("running", "w");
    shard.submitted(&["ready"]);
    let call = by_id("watch", &["ended", "dead", "running", "ready", "unknown"]);
    let answer = items(&shard.expect(&call, "+ watchers: ready running"));
    assert_eq!(bytes(&answer[0]), completion(&ended, "o"));
    assert_eq!(bytes(&answer[1]), completion(&dead, "g"));
    assert_eq!(
        answer[2..4],
        [Value::BulkString(vec![]), Value::BulkString(vec![])]
    );
    assert_eq!(answer[4], Value::Nil);
    shard.expect_nothing(&call);
    // A dead letter outlives its record.
    let bucket = format!("results:{}", shard.state().meta("buckets").unwrap());
    shard.redis("DEL", &[shard.key(&bucket)]);
    let answer = items(&shard.expect_nothing(&call));
    assert_eq!(
        (answer[0].clone(), bytes(&answer[1])),
        (Value::Nil, completion(&dead, "g"))
    );
}

#[test]
fn a_watched_tasks_end_is_forgotten_by_the_watchers() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    shard.call(&by_id("watch", &["a"]));
    shard.call(&finish(&[(&held, "o")]));
    assert!(shard.state().set("watchers").is_empty());
}

/// Brings one task into each state.
fn one_of_each(shard: &Shard) -> Vec<crate::seed::Held> {
    shard.submitted(&["dead", "ended"]);
    let held = claimed(&shard.call(&claim_with("w", 1, 2, ["done", "1", "1"]))).tasks;
    shard.call(&finish(&[(&held[0], "g"), (&held[1], "o")]));
    shard.running("running", "w");
    shard.submitted(&["ready"]);
    shard.call(&submit_with_due(&[task("scheduled")], &["+30000"]));
    held
}

#[test]
fn inspecting_counts_tasks_by_state_and_completions_by_queue() {
    let shard = Shard::new();
    one_of_each(&shard);
    let answer = items(&shard.expect_nothing(&Call::new("inspect")));
    let counts: Vec<String> = answer[..6].iter().map(text).collect();
    assert_eq!(counts, ["4", "1", "1", "1", "0", "1"]);
    assert!(texts(&answer[6]).contains(&"layout".to_owned()));
    assert_eq!(texts(&answer[7]), ["done", "2"]);
}

#[test]
fn finding_tells_everything_about_a_task_but_its_body() {
    let shard = Shard::new();
    let held = one_of_each(&shard);
    let find = |word: &str| items(&shard.expect_nothing(&by_id("find", &[word])));
    for word in ["ready", "running", "scheduled", "dead", "ended", "unknown"] {
        assert_eq!(text(&find(word)[0]), word);
    }
    let mut long = task("long");
    long.body = "a long body".into();
    shard.call(&crate::seed::submit(&[long.clone()]));
    let whole = envelope::encode(&long).unwrap();
    assert_eq!(
        bytes(&find("long")[1]),
        whole[..whole.len() - long.body.len()]
    );
    assert_eq!(bytes(&find("running")[2])[..16], padded("w"));
    let due: u64 = text(&find("scheduled")[3]).parse().unwrap();
    assert!(due > shard.now_ms());
    let died: u64 = text(&find("dead")[3]).parse().unwrap();
    assert!(died <= shard.now_ms());
    assert_eq!(bytes(&find("dead")[5]), completion(&held[0], "g"));
    assert_eq!(bytes(&find("ended")[5]), completion(&held[1], "o")[..22]);
    assert_eq!(find("unknown")[1..], vec![Value::BulkString(vec![]); 7]);
}

#[test]
fn dead_letters_are_listed_by_the_page() {
    let shard = Shard::new();
    let held = one_of_each(&shard);
    let list = |first: u32| items(&shard.expect_nothing(&Call::new("list_dead").n(first).n(100)));
    let page = list(0);
    assert_eq!(page.len(), 4);
    assert_eq!(bytes(&page[0]), padded("dead"));
    assert!(text(&page[1]).parse::<u64>().unwrap() <= shard.now_ms());
    assert_eq!(bytes(&page[3]), completion(&held[0], "g"));
    assert!(list(1).is_empty());
}

#[test]
fn an_unreadable_task_can_be_found() {
    let shard = Shard::new();
    shard.redis(
        "HSET",
        &[shard.key("tasks").as_bytes(), &padded("junk"), &[0xff; 300]],
    );
    let found = items(&shard.call(&by_id("find", &["junk"])));
    assert_eq!(
        (text(&found[0]).as_str(), bytes(&found[1]).len()),
        ("ready", 256)
    );
}
