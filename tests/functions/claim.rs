//! claim: ready tasks for a worker, under its lease.

use pmq_broker::{Task, envelope};

use crate::call::{items, text, texts};
use crate::seed::{
    LEASE, cancel, claim, claim_with, claimed, completion, finish, heartbeat, name, reclaim,
    release, submit, submit_with_due, task,
};
use crate::shard::{Shard, padded};

const SUSPECT: u16 = 0x4000;
const ORPHAN: u16 = 0x8000;

#[test]
fn a_ready_task_is_handed_to_the_worker_under_its_lease() {
    let shard = Shard::new();
    shard.submitted(&["a", "b"]);
    let call = claim("w", 1, 1);
    let answer = shard.expect(
        &call,
        "- ready:5: a b
         + claims w: claim 1 a
         + meta seen: now
         + meta token: T1
         + ready:5: b
         + running a: w T1
         + workers w: +20s",
    );
    let first = claimed(&answer);
    assert_eq!((first.words().as_str(), first.wait.as_str()), ("a", "0"));
    assert_eq!(
        first.tasks[0].envelope,
        envelope::encode(&task("a")).unwrap()
    );
    let again = claimed(&shard.expect_nothing(&call));
    assert_eq!(again.tasks[0].run, first.tasks[0].run);
    assert_eq!(again.words(), "a");
}

#[test]
fn an_empty_queue_answers_no_tasks() {
    let shard = Shard::new();
    let call = claim("w", 1, 5);
    let answer = claimed(&shard.expect(&call, "+ meta seen: now"));
    assert_eq!((answer.words().as_str(), answer.wait.as_str()), ("", ""));
    shard.expect_nothing(&call);
}

#[test]
fn a_number_that_brought_nothing_is_used_again_so_that_a_belated_copy_of_the_call_loses_nothing() {
    let shard = Shard::new();
    shard.call(&claim("w", 1, 1));
    shard.submitted(&["a"]);
    let belated = claimed(&shard.call(&claim("w", 1, 1)));
    let next = claimed(&shard.expect_nothing(&claim("w", 1, 1)));
    assert_eq!((belated.words(), next.words()), ("a".into(), "a".into()));
}

#[test]
fn a_claim_sent_again_after_the_next_one_brings_nothing() {
    let shard = Shard::new();
    shard.submitted(&["a", "b", "c"]);
    shard.call(&claim("w", 1, 1));
    shard.call(&claim("w", 2, 1));
    let old = claimed(&shard.expect_nothing(&claim("w", 1, 1)));
    assert_eq!(old.words(), "");
    assert_eq!(
        claimed(&shard.expect_nothing(&claim("w", 2, 1))).words(),
        "b"
    );
}

#[test]
fn a_claim_sent_again_brings_only_what_is_still_held() {
    let shard = Shard::new();
    shard.submitted(&["a", "b", "c"]);
    let call = claim("w", 1, 3);
    let held = claimed(&shard.call(&call)).tasks;
    shard.call(&finish(&[(&held[1], "o")]));
    assert_eq!(claimed(&shard.expect_nothing(&call)).words(), "a c");
}

#[test]
fn higher_priorities_come_first_and_equal_ones_in_order() {
    let shard = Shard::new();
    let tasks = [("a", 0), ("b", 5), ("c", 9), ("d", 5), ("e", 9)];
    shard.call(&submit(&tasks.map(|(word, priority)| Task {
        priority,
        ..task(word)
    })));
    let all = claimed(&shard.call(&claim("w", 1, 10)));
    assert_eq!(all.words(), "c e b d a");
    assert!(
        shard.state().list("wake").is_empty(),
        "an emptied queue leaves no token"
    );
}

#[test]
fn tokens_grow_with_each_claim() {
    let shard = Shard::new();
    shard.submitted(&["a", "b"]);
    let token = |run: &[u8]| u64::from_le_bytes(run[16..24].try_into().unwrap());
    let first = token(&shard.claimed("w", 1)[0].run);
    let ahead = first + 3_600_000_000; // as a primary with a faster clock would have given it
    shard.set_meta("token", ahead);
    assert_eq!(token(&shard.claimed("w", 1)[0].run), ahead + 1);
}

#[test]
fn due_tasks_become_ready_by_priority_and_the_rest_tells_how_long_to_wait() {
    let shard = Shard::new();
    let tasks = [("a", 1), ("b", 8), ("c", 5)].map(|(word, priority)| Task {
        priority,
        ..task(word)
    });
    shard.call(&submit_with_due(&tasks, &["+1", "+1", "+30000"]));
    shard.make_due("a");
    shard.make_due("b");
    let answer = shard.expect(
        &claim("w", 1, 1),
        "- scheduled a: -60s p1
         - scheduled b: -60s p8
         + claims w: claim 1 b
         + meta seen: now
         + meta token: T1
         + ready:1: a
         + running b: w T1 run 1
         + workers w: +20s",
    );
    assert_eq!(claimed(&answer).words(), "b");
    shard.call(&claim("w", 2, 1));
    let empty = claimed(&shard.call(&claim("v", 1, 1)));
    let wait: u64 = empty.wait.parse().unwrap();
    assert!((1..=LEASE).contains(&wait), "until w's lease ends: {wait}");
}

#[test]
fn a_claim_that_leaves_tasks_behind_passes_a_token_on() {
    let shard = Shard::new();
    shard.submitted(&["a", "b", "c"]);
    shard.redis("DEL", &[shard.key("wake")]); // three waiters took their tokens
    shard.claimed("w", 1);
    assert_eq!(shard.state().list("wake").len(), 1);
    shard.claimed("w", 1);
    assert_eq!(shard.state().list("wake").len(), 1);
    shard.claimed("w", 1);
    assert_eq!(shard.state().list("wake").len(), 0);
}

#[test]
fn a_claim_that_makes_room_tells_a_producer() {
    let shard = Shard::new();
    shard.set_meta("maxsize", 2);
    shard.submitted(&["a", "b"]);
    shard.claimed("w", 1);
    assert_eq!(shard.state().list("wake.room").len(), 1);
    shard.claimed("w", 1);
    assert_eq!(shard.state().list("wake.room").len(), 1);
}

#[test]
fn a_paused_queue_hands_out_nothing() {
    let shard = Shard::new();
    shard.submitted(&["a"]);
    shard.set_meta("paused", 1);
    let call = claim("w", 1, 1);
    assert_eq!(
        claimed(&shard.expect(&call, "+ meta seen: now")).words(),
        ""
    );
    shard.expect_nothing(&call);
}

#[test]
fn a_worker_that_posts_to_a_full_completion_queue_gets_nothing() {
    let shard = Shard::new();
    shard.submitted(&["a"]);
    shard.set_meta("completions_max", 1);
    shard.redis("RPUSH", &[shard.key("done:full"), "x".to_owned()]);
    let full = claim_with("w", 1, 1, ["full", "1", "1"]);
    assert_eq!(claimed(&shard.call(&full)).words(), "");
    shard.set_meta("completions", "full");
    assert_eq!(claimed(&shard.call(&claim("w", 1, 1))).words(), "");
    let free = claim_with("w", 1, 1, ["free", "1", "1"]);
    let answer = shard.call(&free);
    assert_eq!(claimed(&answer).words(), "a");
}

#[test]
fn the_completion_queue_is_the_tasks_else_the_workers_else_the_queues() {
    let shard = Shard::new();
    shard.set_meta("completions", "queue");
    shard.call(&submit(&[
        task("a").with_completions(name("task")),
        task("b"),
        task("c"),
    ]));
    let two = claimed(&shard.call(&claim_with("w", 1, 2, ["worker", "1", "1"]))).tasks;
    let third = shard.claimed("v", 1).remove(0);
    shard.call(&finish(&[(&two[0], "o"), (&two[1], "o"), (&third, "o")]));
    for (queue, held) in [("task", &two[0]), ("worker", &two[1]), ("queue", &third)] {
        assert_eq!(
            shard.state().list(&format!("done:{queue}")),
            [completion(held, "o")]
        );
    }
}

#[test]
fn cancelled_ids_are_skipped() {
    let shard = Shard::new();
    shard.submitted(&["a", "b", "c", "d"]);
    shard.call(&cancel(&["a", "c"]));
    assert_eq!(claimed(&shard.call(&claim("w", 1, 4))).words(), "b d");
    assert!(shard.state().set("holes").is_empty());
}

#[test]
fn a_live_task_behind_100_000_cancelled_ones_is_found_in_a_bounded_number_of_short_calls() {
    let shard = Shard::new();
    let words: Vec<String> = (0..100_000).map(|i| format!("h{i}")).collect();
    for chunk in words.chunks(500) {
        let chunk: Vec<&str> = chunk.iter().map(String::as_str).collect();
        shard.submitted(&chunk);
        for chunk in chunk.chunks(100) {
            shard.call(&cancel(chunk));
        }
    }
    shard.submitted(&["live"]);
    for calls in 1.. {
        let answer = claimed(&shard.call(&claim("w", 1, 1)));
        if answer.words() == "live" {
            break;
        }
        assert_eq!((answer.words().as_str(), answer.wait.as_str()), ("", "0"));
        assert!(calls <= 200, "100,000 holes, 500 a call");
    }
    assert!(shard.state().set("holes").is_empty());
    shard.clear();
}

#[test]
fn a_claim_brings_at_most_a_mebibyte_but_at_least_one_task() {
    let shard = Shard::new();
    let large = |word: &str, size: usize| {
        let mut large = task(word);
        large.body = vec![b'x'; size].into();
        large
    };
    shard.call(&submit(&[large("a", 3 << 20)]));
    shard.call(&submit(&[large("b", 600_000)]));
    shard.call(&submit(&[large("c", 400_000), large("d", 400_000)]));
    shard.call(&submit(&[Task {
        priority: 1,
        ..large("e", 700_000)
    }]));
    let mut number = 0;
    let mut next = || {
        number += 1;
        let answer = claimed(&shard.call(&claim("w", number, 10)));
        (answer.words(), answer.wait)
    };
    assert_eq!(next(), ("a".into(), "0".into()));
    assert_eq!(next(), ("b c".into(), "0".into()));
    assert_eq!(next(), ("d".into(), "0".into()));
    let (words, wait) = next();
    assert_eq!(words, "e");
    assert_ne!(wait, "0", "nothing is left");
}

#[test]
fn small_tasks_of_several_lists_keep_to_a_mebibyte_together() {
    let shard = Shard::new();
    let tasks = |priority: u8, words: std::ops::Range<u32>| -> Vec<Task> {
        let mut task = |i| Task {
            priority,
            body: vec![b'x'; 5_000].into(),
            ..task(&format!("t{i}"))
        };
        words.map(&mut task).collect()
    };
    shard.call(&submit(&tasks(9, 0..150)));
    shard.call(&submit(&tasks(1, 150..300)));
    let got = shard.claimed("w", 500);
    let bytes: usize = got.iter().map(|held| held.envelope.len()).sum();
    assert!(
        bytes <= 1 << 20 && got.len() > 200,
        "{} tasks, {bytes} bytes",
        got.len()
    );
    assert_eq!(got.len() + shard.claimed("w", 500).len(), 300);
}

#[test]
fn a_worker_gets_one_suspect_a_claim_and_only_if_it_may() {
    let shard = Shard::new();
    shard.submitted(&["s1", "s2"]);
    for _ in 0..2 {
        assert_eq!(shard.claimed("w", 2).len(), 2);
        shard.crash("w");
    }
    shard.submitted(&["a", "b"]);
    assert_eq!(shard.state().list("suspects").len(), 2);
    let none = claimed(&shard.call(&claim_with("w", 1, 1, ["", "0", "1"])));
    assert_eq!(none.words(), "a");
    let one = claimed(&shard.call(&claim_with("v", 1, 9, ["", "1", "1"]))).tasks;
    assert_eq!(one.len(), 2);
    assert!(one[0].flags() & SUSPECT != 0 && one[1].flags() & SUSPECT == 0);
    // Only suspects are left: who may not take them neither spins nor takes the token from who may.
    shard.redis("DEL", &[shard.key("wake")]);
    shard.call(&claim_with("w", 2, 1, ["", "0", "1"]));
    assert!(shard.state().list("wake").is_empty());
    // A suspect that is handed back or fails stays one.
    shard.call(&release(&[&one[0]]));
    assert_eq!(shard.state().list("suspects").len(), 2);
    let held = shard.claimed("u", 9).remove(0);
    shard.call(&finish(&[(&held, "f")]));
    shard.make_due(&held.word());
    assert_eq!(shard.claimed("x", 9).len(), 1);
    assert_eq!(shard.claimed("y", 9).len(), 1);
}

#[test]
fn cancelled_suspects_do_not_hide_a_live_one() {
    let shard = Shard::new();
    shard.submitted(&["s1", "s2", "s3"]);
    for _ in 0..2 {
        shard.claimed("w", 3);
        shard.crash("w");
    }
    let suspects = shard.state().list("suspects");
    let words: Vec<String> = suspects
        .iter()
        .map(|s| String::from_utf8(s[..2].to_vec()).unwrap())
        .collect();
    shard.call(&cancel(&[&words[0], &words[1]]));
    assert_eq!(claimed(&shard.call(&claim("w", 1, 1))).words(), words[2]);
}

#[test]
fn a_task_whose_owner_is_gone_is_marked_as_an_orphan() {
    let shard = Shard::new();
    shard.call(&crate::seed::join("owner", "private"));
    let owned = |word| Task {
        owner: Some(crate::shard::who("owner")),
        expires_ms: Some(1),
        ..task(word)
    };
    shard.call(&submit(&[owned("a"), owned("b")]));
    assert_eq!(shard.claimed("w", 1)[0].flags() & ORPHAN, 0);
    shard.call(&crate::seed::leave("owner", true));
    assert_ne!(shard.claimed("w", 1)[0].flags() & ORPHAN, 0);
}

#[test]
fn one_claim_tells_orphans_from_others_and_tasks_that_are_not_alike() {
    let shard = Shard::new();
    shard.call(&crate::seed::join("gone", "private"));
    shard.call(&crate::seed::join("alive", "private"));
    let owned = |word, owner| Task {
        owner: Some(crate::shard::who(owner)),
        ..task(word)
    };
    let rare = Task {
        keep: false,
        ..owned("c", "alive")
    };
    shard.call(&submit(&[
        owned("a", "gone"),
        owned("b", "alive"),
        rare,
        owned("d", "gone"),
    ]));
    shard.call(&crate::seed::leave("gone", true));
    let flags: Vec<u16> = shard
        .claimed("w", 4)
        .iter()
        .map(crate::seed::Held::flags)
        .collect();
    let [owner, discard] = [2, 8];
    assert_eq!(
        flags,
        [owner | ORPHAN, owner, owner | discard, owner | ORPHAN]
    );
}

#[test]
fn an_ended_worker_has_lost_its_lease_until_its_row_is_gone() {
    let shard = Shard::new();
    shard.submitted(&["a"]);
    shard.claimed("w", 1);
    shard.redis(
        "ZADD",
        &[shard.key("workers").as_bytes(), b"-1", &padded("w")],
    );
    assert_eq!(texts(&shard.expect_nothing(&claim("w", 2, 1))), ["lost"]);
}

#[test]
fn unreadable_envelopes_are_handed_out_and_the_others_go_on() {
    let shard = Shard::new();
    shard.submitted(&["a"]);
    for (word, bytes) in [
        ("empty", &b""[..]),
        ("junk", b"\xff\xff\xff\xff junk"),
        ("short", b"\x01\x00"),
    ] {
        shard.redis(
            "HSET",
            &[shard.key("tasks").as_bytes(), &padded(word), bytes],
        );
        shard.redis("RPUSH", &[shard.key("ready:5").as_bytes(), &padded(word)]);
    }
    shard.redis("HSET", &[shard.key("tasks").as_bytes(), b"no id", b"x"]);
    shard.redis("RPUSH", &[shard.key("ready:5").as_bytes(), b"no id"]);
    shard.submitted(&["b"]);
    let held = shard.claimed("w", 9);
    let words: Vec<String> = held.iter().map(crate::seed::Held::word).collect();
    assert_eq!(words, ["a", "empty", "junk", "short", "b"]);
    let ends: Vec<(&crate::seed::Held, &str)> = held.iter().map(|h| (h, "d")).collect();
    assert_eq!(text(&shard.call(&finish(&ends))), "bbbbb");
    assert_eq!(
        shard.state().hash("tasks")[padded("junk").as_slice()],
        b"\xff\xff\xff\xff junk"
    );
}

#[test]
fn a_belated_claim_of_an_idle_worker_does_not_let_its_tasks_go() {
    let shard = Shard::new();
    shard.submitted(&["a"]);
    let held = shard.claimed("w", 1);
    shard.call(&finish(&[(&held[0], "o")]));
    shard.submitted(&["b"]);
    shard.call(&claim("w", 2, 1)); // its reply is lost
    shard.call(&heartbeat("w", "1"));
    shard.expire("w");
    let answer = items(&shard.call(&reclaim()));
    assert_eq!(text(&answer[1]), "1", "b is taken back");
}
