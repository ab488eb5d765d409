//! cancel: tasks that wait end, workers are told to stop the others.

use pmq_broker::Task;

use crate::call::text;
use crate::seed::{by_id, cancel, finish, name, refuse, release, submit, submit_with_due, task};
use crate::shard::{Shard, padded};

#[test]
fn ready_tasks_end_as_cancelled_and_leave_holes() {
    let shard = Shard::new();
    shard.submitted(&["a", "b", "c"]);
    let call = cancel(&["a", "c"]);
    let answer = shard.expect(
        &call,
        "- tasks a
         - tasks c
         + holes: a c
         + meta buckets: B1
         + B1 a: cancelled
         + B1 c: cancelled
         + B1 expires +4050s",
    );
    assert_eq!(text(&answer), "cc");
    assert_eq!(text(&shard.expect_nothing(&call)), "ee");
}

#[test]
fn a_scheduled_task_ends_as_cancelled() {
    let shard = Shard::new();
    let scheduled = task("a").with_completions(name("done"));
    shard.call(&submit_with_due(&[scheduled], &["+30000"]));
    let call = cancel(&["a"]);
    let answer = shard.expect(
        &call,
        "- scheduled a: +30s p5
         - tasks a
         + done:done: a cancelled
         + meta buckets: B1
         + names: done
         + B1 a: cancelled (verdict)
         + B1 expires +4050s
         + wake.done:done: 1",
    );
    assert_eq!(text(&answer), "c");
    assert_eq!(text(&shard.expect_nothing(&call)), "e");
}

#[test]
fn a_retry_is_forgotten_with_what_it_used_up() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    shard.call(&finish(&[(&held, "f")]));
    shard.set_meta("completions", "default");
    let answer = shard.expect(
        &cancel(&["a"]),
        "- attempts a: failed 1 crashed 0 T1
         - scheduled a: +10s p5
         - tasks a
         + done:default: a cancelled
         + meta buckets: B1
         + names: default
         + B1 a: cancelled (verdict)
         + B1 expires +4050s
         + wake.done:default: 1",
    );
    assert_eq!(text(&answer), "c");
}

#[test]
fn the_worker_of_a_running_task_is_told_to_stop_it() {
    let shard = Shard::new();
    shard.running("a", "w");
    let call = cancel(&["a"]);
    let answer = shard.expect(&call, "+ cancels w: a 15");
    assert_eq!(text(&answer), "r");
    assert_eq!(text(&shard.expect_nothing(&call)), "r");
    let mut kill = call;
    kill.args[0] = b"9".to_vec();
    let answer = shard.expect(
        &kill,
        "- cancels w: a 15
         + cancels w: a 15, a 9",
    );
    assert_eq!(text(&answer), "r");
}

#[test]
fn a_call_reads_about_a_mebibyte_and_says_what_to_ask_again_for() {
    let shard = Shard::new();
    let words = ["a", "b", "c", "d"];
    for word in words {
        let body = vec![b'x'; 600_000].into();
        shard.call(&submit(&[Task { body, ..task(word) }]));
    }
    shard.running("e", "w"); // the oldest: a
    let answer = shard.call(&cancel(&["b", "a", "c", "d", "e"]));
    assert_eq!(text(&answer), "crcmm");
    assert_eq!(text(&shard.call(&cancel(&["d", "e"]))), "cc");
}

#[test]
fn one_task_is_cancelled_however_large() {
    let shard = Shard::new();
    let body = vec![b'x'; 3 << 20].into();
    shard.call(&submit(&[Task { body, ..task("a") }, task("b")]));
    assert_eq!(text(&shard.call(&cancel(&["a", "b"]))), "cm");
}

#[test]
fn room_in_a_queue_with_a_maxsize_wakes_a_producer() {
    let shard = Shard::new();
    shard.submitted(&["unbounded"]);
    shard.call(&cancel(&["unbounded"]));
    assert!(shard.state().list("wake.room").is_empty());
    shard.set_meta("maxsize", 3);
    shard.running("running", "w");
    shard.submitted(&["a", "b"]);
    shard.call(&cancel(&["running", "unknown"]));
    shard.redis("DEL", &[shard.key("wake.room")]); // of the claim
    shard.call(&cancel(&["running", "unknown"]));
    assert!(shard.state().list("wake.room").is_empty(), "no room yet");
    shard.call(&cancel(&["a"]));
    assert_eq!(shard.state().list("wake.room").len(), 1);
    shard.call(&cancel(&["b"]));
    assert_eq!(shard.state().list("wake.room").len(), 1, "one is enough");
}

#[test]
fn each_task_of_a_call_gets_its_own_answer_and_a_repeated_one_ends_once() {
    let shard = Shard::new();
    let dead = shard.running("dead", "w");
    let ended = shard.running("ended", "w");
    shard.running("running", "w");
    shard.call(&finish(&[(&dead, "g"), (&ended, "o")]));
    shard.submitted(&["ready"]);
    shard.set_meta("completions", "done");
    let words = ["ready", "running", "dead", "ended", "unknown", "ready"];
    assert_eq!(text(&shard.call(&cancel(&words))), "crdeue");
    assert_eq!(shard.state().list("done:done").len(), 1);
    assert_eq!(text(&shard.expect_nothing(&cancel(&words))), "erdeue");
}

#[test]
fn somebody_who_waits_for_the_task_is_told_once() {
    let shard = Shard::new();
    shard.submitted(&["a", "b"]);
    shard.call(&by_id("watch", &["a", "b"]));
    shard.expect(
        &cancel(&["a"]),
        "- tasks a
         - watchers: a b
         + holes: a
         + meta buckets: B1
         + B1 a: cancelled
         + B1 expires +4050s
         + watchers: b",
    );
}

#[test]
fn a_run_that_fails_before_its_worker_read_the_order_ends_as_cancelled() {
    for outcome in ["f", "g"] {
        let shard = Shard::new();
        let held = shard.running("a", "w");
        shard.call(&cancel(&["a"]));
        let call = finish(&[(&held, outcome)]);
        let answer = shard.expect(
            &call,
            "- running a: w T1
             - tasks a
             + meta buckets: B1
             + B1 a: cancelled T1
             + B1 expires +4050s",
        );
        assert_eq!(text(&answer), "o");
        assert_eq!(text(&shard.expect_nothing(&call)), "a");
    }
}

#[test]
fn a_run_that_did_well_in_spite_of_the_order_keeps_its_result() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    shard.call(&cancel(&["a"]));
    assert_eq!(text(&shard.call(&finish(&[(&held, "o")]))), "o");
    assert!(shard.lines().contains(&"B1 a: ok T1".to_owned()));
}

#[test]
fn a_run_that_is_handed_back_or_refused_in_spite_of_the_order_ends_as_cancelled() {
    for give_back in [release, refuse] {
        let shard = Shard::new();
        shard.call(&submit(&[task("a").with_completions(name("done"))]));
        let held = shard.claimed("w", 1).remove(0);
        shard.call(&finish(&[(&held, "f")])); // what it used up is forgotten with it
        shard.make_due("a");
        let held = shard.claimed("w", 1).remove(0);
        shard.call(&cancel(&["a"]));
        let call = give_back(&[&held]);
        let answer = shard.expect(
            &call,
            "- attempts a: failed 1 crashed 0 T1
             - running a: w T2 run 2
             - tasks a
             + done:done: a cancelled
             + meta buckets: B1
             + names: done
             + B1 a: cancelled (verdict)
             + B1 expires +4050s
             + wake.done:done: 1",
        );
        assert_eq!(text(&answer), "c");
        assert_eq!(text(&shard.expect_nothing(&call)), "l");
    }
}

#[test]
fn an_order_stops_the_runs_that_it_names_and_no_other_of_its_worker() {
    for outcome in ["f", "released", "refused"] {
        let shard = Shard::new();
        shard.submitted(&["a", "b", "c"]);
        let held = shard.claimed("w", 3);
        shard.call(&cancel(&["b"]));
        let answer = text(&match outcome {
            "released" => shard.call(&release(&[&held[0], &held[1], &held[2]])),
            "refused" => shard.call(&refuse(&[&held[0], &held[1], &held[2]])),
            _ => shard.call(&finish(&[
                (&held[0], "f"),
                (&held[1], "f"),
                (&held[2], "f"),
            ])),
        });
        let expected = [("f", "ror"), ("released", "oco"), ("refused", "rcr")];
        assert!(expected.contains(&(outcome, answer.as_str())), "{answer}");
        let state = shard.state();
        assert!(state.hash("running").is_empty());
        let left: Vec<Vec<u8>> = state.hash("tasks").into_keys().collect();
        assert_eq!(left, [padded("a").to_vec(), padded("c").to_vec()]);
    }
}

#[test]
fn a_task_that_was_cancelled_while_its_worker_died_does_not_run_again() {
    let shard = Shard::new();
    shard.call(&submit(&[Task {
        priority: 7,
        ..task("a").with_completions(name("done"))
    }]));
    shard.claimed("w", 1);
    shard.running("b", "w");
    shard.call(&cancel(&["a"]));
    shard.crash("w");
    assert_eq!(shard.state().list("done:done").len(), 1);
    assert!(
        shard
            .lines()
            .contains(&"B1 a: cancelled (verdict)".to_owned())
    );
    let words: Vec<String> = shard
        .claimed("v", 9)
        .iter()
        .map(crate::seed::Held::word)
        .collect();
    assert_eq!(words, ["b"]);
}
