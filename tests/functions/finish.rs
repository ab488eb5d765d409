//! finish: runs end, each by its own running value.

use pmq_broker::Task;

use crate::call::{Call, text};
use crate::seed::{
    Held, by_id, claim_with, claimed, finish, join, leave, name, refuse, submit, task,
};
use crate::shard::{Shard, padded, who};

#[test]
fn a_run_that_did_well_ends_its_task_and_keeps_a_record() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    let call = finish(&[(&held, "o")]);
    let answer = shard.expect(
        &call,
        "- running a: w T1
         - tasks a
         + meta buckets: B1
         + B1 a: ok T1
         + B1 expires +4050s",
    );
    assert_eq!(text(&answer), "o");
    assert_eq!(text(&shard.expect_nothing(&call)), "a");
}

#[test]
fn a_completion_queue_gets_the_completion_and_the_record_only_the_verdict() {
    let shard = Shard::new();
    shard.call(&submit(&[task("a").with_completions(name("done"))]));
    let held = shard.claimed("w", 1).remove(0);
    let call = finish(&[(&held, "o")]);
    let answer = shard.expect(
        &call,
        "- running a: w T1 run 1
         - tasks a
         + done:done: a ok T1
         + meta buckets: B1
         + names: done
         + B1 a: ok T1 (verdict)
         + B1 expires +4050s
         + wake.done:done: 1",
    );
    assert_eq!(text(&answer), "o");
    assert_eq!(text(&shard.expect_nothing(&call)), "a");
}

#[test]
fn a_failure_with_attempts_left_is_scheduled_again_and_uses_one_up() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    let call = finish(&[(&held, "f")]);
    let answer = shard.expect(
        &call,
        "- running a: w T1
         + attempts a: failed 1 crashed 0 T1
         + scheduled a: +10s p5
         + wake: 1",
    );
    assert_eq!(text(&answer), "r");
    assert_eq!(text(&shard.expect_nothing(&call)), "r");
}

#[test]
fn the_last_failure_is_a_dead_letter_with_its_completion() {
    let shard = Shard::new();
    let mut twice = task("a").with_completions(name("done"));
    twice.retry.attempts = 2;
    shard.call(&submit(&[twice]));
    let held = shard.claimed("w", 1).remove(0);
    shard.call(&finish(&[(&held, "f")]));
    shard.make_due("a");
    let held = shard.claimed("w", 1).remove(0);
    let call = finish(&[(&held, "f")]);
    let answer = shard.expect(
        &call,
        "- attempts a: failed 1 crashed 0 T1
         - running a: w T2 run 2
         + attempts a: failed 2 crashed 0 T2
         + dead a: now p5
         + done:done: a failed T2
         + errors a: failed T2
         + meta buckets: B1
         + names: done
         + B1 a: failed T2 (verdict)
         + B1 expires +4050s
         + wake.done:done: 1",
    );
    assert_eq!(text(&answer), "b");
    assert_eq!(text(&shard.expect_nothing(&call)), "a");
}

#[test]
fn what_failed_for_good_or_could_not_be_run_is_a_dead_letter_at_once() {
    for (outcome, failures) in [("g", "failed 1 crashed 0 T1"), ("d", "")] {
        let shard = Shard::new();
        let held = shard.running("a", "w");
        let call = finish(&[(&held, outcome)]);
        assert_eq!(text(&shard.call(&call)), "b");
        let lines = shard.lines();
        assert!(lines.contains(&"dead a: now p5".to_owned()), "{lines:#?}");
        assert!(lines.contains(&"tasks a".to_owned()), "its bytes are kept");
        assert_eq!(
            lines.contains(&format!("attempts a: {failures}")),
            !failures.is_empty()
        );
        assert_eq!(text(&shard.expect_nothing(&call)), "a");
    }
}

#[test]
fn a_stopped_run_ends_its_task_as_cancelled() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    assert_eq!(text(&shard.call(&finish(&[(&held, "c")]))), "o");
    assert!(shard.lines().contains(&"B1 a: cancelled T1".to_owned()));
    assert!(shard.state().hash("tasks").is_empty());
}

#[test]
fn only_the_newest_token_can_finish() {
    let shard = Shard::new();
    let old = shard.running("a", "slow");
    shard.crash("slow");
    let new = shard.claimed("w", 1).remove(0);
    for outcome in ["o", "f", "g", "d", "c"] {
        assert_eq!(
            text(&shard.expect_nothing(&finish(&[(&old, outcome)]))),
            "l"
        );
    }
    assert_eq!(text(&shard.call(&finish(&[(&new, "o")]))), "o");
    assert_eq!(text(&shard.expect_nothing(&finish(&[(&old, "o")]))), "l");
}

#[test]
fn lost_runs_do_not_stop_the_others_of_a_call() {
    let shard = Shard::new();
    shard.submitted(&["a", "b", "c"]);
    let held = shard.claimed("w", 3);
    let ended = finish(&[(&held[1], "o")]);
    shard.call(&ended);
    let stranger = Held {
        id: padded("x"),
        ..held[0].clone()
    };
    let call = finish(&[
        (&held[0], "o"),
        (&held[1], "o"),
        (&stranger, "o"),
        (&held[2], "f"),
        (&held[0], "o"),
    ]);
    assert_eq!(text(&shard.call(&call)), "oalrl");
    assert_eq!(text(&shard.expect_nothing(&call)), "aalra");
}

#[test]
fn the_wait_before_a_retry_doubles_from_the_floor_to_the_cap() {
    let shard = Shard::new();
    let mut patient = task("a");
    patient.retry.attempts = 10;
    patient.retry.floor = std::time::Duration::from_secs(100);
    patient.retry.cap = std::time::Duration::from_secs(500);
    shard.call(&submit(&[patient]));
    let bounds = [(100, 200), (100, 400), (100, 500), (100, 500)];
    for (shortest, longest) in bounds {
        for jitter in ["0", "999"] {
            let held = shard.claimed("w", 1).remove(0);
            let before = shard.now_ms();
            let call = finish(&[(&held, "f")]);
            let call = Call {
                args: [&[jitter.into()], &call.args[1..]].concat(),
                ..call
            };
            shard.call(&call);
            let due: f64 = shard.state().sorted("scheduled")[padded("a").as_slice()]
                .parse()
                .unwrap();
            let wait = due - before as f64;
            let expected = if jitter == "0" { shortest } else { longest };
            assert!(
                wait > f64::from(expected) * 990.0 && wait < f64::from(expected) * 1000.0 + 9_000.0,
                "{wait} ms, {expected} s"
            );
            shard.make_due("a");
            // The next jitter looks at the same number of failures.
            if jitter == "0" {
                let attempts = shard.state().hash("attempts")[padded("a").as_slice()].clone();
                let failures = u16::from_le_bytes([attempts[0], attempts[1]]) - 1;
                let row = [&failures.to_le_bytes(), &attempts[2..]].concat();
                shard.redis(
                    "HSET",
                    &[shard.key("attempts").as_bytes(), &padded("a"), &row],
                );
            }
        }
    }
}

#[test]
fn a_result_that_nobody_wants_keeps_only_the_verdict() {
    let shard = Shard::new();
    shard.call(&submit(&[Task {
        keep: false,
        ..task("a")
    }]));
    let held = shard.claimed("w", 1).remove(0);
    let call = finish(&[(&held, "o")]);
    shard.call(&call);
    assert!(shard.lines().contains(&"B1 a: ok T1 (verdict)".to_owned()));
    assert_eq!(text(&shard.expect_nothing(&call)), "a");
}

#[test]
fn the_completion_of_an_owner_that_is_gone_goes_to_the_record() {
    let shard = Shard::new();
    shard.call(&join("owner", "private"));
    let owned = Task {
        owner: Some(who("owner")),
        ..task("a").with_completions(name("private"))
    };
    shard.call(&submit(&[owned]));
    let held = shard.claimed("w", 1).remove(0);
    shard.call(&leave("owner", true));
    shard.call(&finish(&[(&held, "o")]));
    let lines = shard.lines();
    assert!(lines.contains(&"B1 a: ok T1".to_owned()), "{lines:#?}");
    assert!(
        !lines.iter().any(|line| line.contains("private: ")),
        "{lines:#?}"
    );
}

#[test]
fn a_full_completion_queue_still_takes_what_was_claimed() {
    let shard = Shard::new();
    shard.submitted(&["a"]);
    let held = claimed(&shard.call(&claim_with("w", 1, 1, ["done", "1", "1"])))
        .tasks
        .remove(0);
    shard.set_meta("completions_max", 1);
    shard.redis("RPUSH", &[shard.key("done:done"), "x".to_owned()]);
    assert_eq!(text(&shard.call(&finish(&[(&held, "o")]))), "o");
    assert_eq!(shard.state().list("done:done").len(), 2);
}

#[test]
fn a_run_ends_a_time_of_refusals() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    shard.call(&refuse(&[&held]));
    shard.make_due("a");
    let held = shard.claimed("w", 1).remove(0);
    shard.call(&finish(&[(&held, "f")]));
    assert!(
        shard
            .lines()
            .contains(&"attempts a: failed 1 crashed 0 T1".to_owned())
    );
}

#[test]
fn records_are_found_for_as_long_as_the_retention_and_the_oldest_bucket_goes() {
    let shard = Shard::new();
    shard.set_meta("results_max", 16); // two records a bucket
    for i in 0..24 {
        let held = shard.running(&format!("a{i}"), "w");
        shard.call(&finish(&[(&held, "o")]));
    }
    let buckets = shard.state().meta("buckets").unwrap();
    assert_eq!(buckets.split(',').count(), 9);
    let state = shard.state();
    let parts = state.0.keys().filter(|part| part.starts_with("results:"));
    assert_eq!(parts.count(), 9, "the oldest are unlinked");
    let found = |word: &str| {
        crate::call::items(&shard.call(&by_id("watch", &[word])))[0] != redis::Value::Nil
    };
    assert!((0..6).all(|i| !found(&format!("a{i}"))));
    assert!(
        (6..24).all(|i| found(&format!("a{i}"))),
        "at least 16, at most 18"
    );
}

#[test]
fn a_bucket_is_a_slice_of_an_eighth_of_the_retention() {
    let shard = Shard::new();
    shard.set_meta("retention", 80_000);
    let held = shard.running("a", "w");
    shard.call(&finish(&[(&held, "o")]));
    let first = shard.state().meta("buckets").unwrap();
    // 11 s ago: the slice is over. A minute and a half ago: what was in it has been kept long enough.
    for (age_s, kept) in [(11, 2), (91, 1)] {
        let name = (shard.now_ms() - age_s * 1000).to_string();
        shard.set_meta("buckets", &name);
        let held = shard.running(&format!("b{age_s}"), "w");
        shard.call(&finish(&[(&held, "o")]));
        let buckets = shard.state().meta("buckets").unwrap();
        assert_eq!(buckets.split(',').count(), kept, "{first} {buckets}");
    }
    let expires: Vec<i64> = shard
        .state()
        .0
        .iter()
        .filter(|(part, _)| part.starts_with("results:"))
        .map(|(_, c)| c.1)
        .collect();
    assert_eq!(expires.len(), 3);
    let now = shard.now_ms() as i64;
    assert!(
        expires
            .iter()
            .all(|at| (70_000..=90_000).contains(&(at - now)))
    );
}

#[test]
fn runs_that_share_a_running_value_are_ended_as_a_group_and_a_repeated_one_once() {
    let shard = Shard::new();
    shard.call(&submit(&[task("a"), task("b"), task("c")]));
    let held = shard.claimed("w", 3);
    let call = finish(&[
        (&held[0], "o"),
        (&held[1], "o"),
        (&held[0], "o"),
        (&held[2], "f"),
    ]);
    assert_eq!(text(&shard.call(&call)), "oolr");
    assert_eq!(text(&shard.expect_nothing(&call)), "aaar");
}

#[test]
fn a_group_without_the_runs_that_it_says_is_refused_whole() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    let group = |n: &str| Call::new("finish").n(1).arg(&held.run).arg("o").arg(n);
    let whole = |n: &str| group(n).arg(held.id).arg("completion");
    for call in [
        group("1"),
        whole("0"),
        whole("2"),
        whole("many"),
        whole("1").arg("more"),
    ] {
        shard.expect_error(&call, "PMQMALFORMED");
    }
}

#[test]
fn an_end_that_comes_too_late_does_not_take_a_later_run_of_the_task_along() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    let mut earlier = held.clone();
    earlier.run[16] ^= 1;
    let call = finish(&[(&earlier, "o"), (&held, "o")]);
    assert_eq!(text(&shard.call(&call)), "lo");
    assert!(shard.state().hash("running").is_empty());
}
