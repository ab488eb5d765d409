//! reclaim: what a worker held whose lease ended.

use pmq_broker::Task;
use pmq_tests::RedisServer;

use crate::call::{items, text, texts};
use crate::seed::{
    LEASE, claim, claimed, finish, heartbeat, join, name, reclaim, submit, submit_with_due, take,
    task,
};
use crate::shard::{Shard, load, padded, who};

#[test]
fn the_tasks_of_an_ended_worker_go_back_and_a_crash_is_counted() {
    let shard = Shard::new();
    shard.running("a", "w");
    shard.running("b", "v");
    shard.expire("w");
    let call = reclaim();
    let answer = shard.expect(
        &call,
        "- claims w: claim 1 a
         - running a: w T1
         - workers w: -60s
         + attempts a: failed 0 crashed 1
         + meta cursor: 0
         + meta run: run
         + meta turn: 2
         + ready:5: a
         + wake: 1",
    );
    assert_eq!(texts(&answer), ["ok", "1", "0"]);
    assert_eq!(texts(&shard.expect_nothing(&call)), ["ok", "0", "0"]);
    let held = shard.claimed("v", 1).remove(0);
    assert_eq!(
        u16::from_le_bytes([held.run[25], held.run[26]]),
        2,
        "the second run"
    );
}

#[test]
fn a_lease_that_has_not_ended_keeps_its_tasks() {
    let shard = Shard::new();
    shard.running("a", "w");
    assert_eq!(texts(&shard.expect_nothing(&reclaim())), ["ok", "0", "0"]);
}

#[test]
fn a_second_crash_makes_a_suspect_and_the_third_a_dead_letter() {
    let shard = Shard::new();
    shard.call(&submit(&[task("a").with_completions(name("done"))]));
    shard.claimed("w", 1);
    shard.crash("w");
    shard.claimed("w", 1);
    shard.expire("w");
    shard.call(&reclaim());
    assert_eq!(shard.state().list("suspects").len(), 1);
    shard.claimed("w", 1);
    shard.expire("w");
    shard.expect(
        &reclaim(),
        "- attempts a: failed 0 crashed 2
         - claims w: claim 1 a
         - meta turn: 3
         - running a: w T1 run 3 suspect
         - workers w: -60s
         + attempts a: failed 0 crashed 3
         + dead a: now p5
         + done:done: a dead (its worker died 3 times while it ran)
         + errors a: dead (its worker died 3 times while it ran)
         + meta buckets: B1
         + meta turn: 4
         + names: done
         + B1 a: dead (verdict)
         + B1 expires +4050s
         + wake.done:done: 1",
    );
}

#[test]
fn the_crash_budget_is_the_tasks_own_and_apart_from_its_attempts() {
    let shard = Shard::new();
    let mut tough = task("a");
    (tough.retry.crashes, tough.retry.attempts) = (5, 1);
    shard.call(&submit(&[tough]));
    for _ in 0..4 {
        assert_eq!(shard.claimed("w", 1).len(), 1);
        shard.crash("w");
    }
    let held = shard.claimed("w", 1).remove(0);
    assert_eq!(text(&shard.call(&finish(&[(&held, "f")]))), "b");
}

#[test]
fn the_row_of_an_idle_worker_goes_at_once() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    shard.call(&finish(&[(&held, "o")]));
    shard.call(&heartbeat("w", "1"));
    shard.expire("w");
    shard.expect(
        &reclaim(),
        "- claims w: claim 1 idle
         - workers w: -60s",
    );
}

#[test]
fn an_idle_worker_gives_back_what_a_failover_has_put_into_its_hands_again() {
    let shard = Shard::new();
    shard.running("a", "w");
    // It had finished, which a failover undid.
    shard.call(&heartbeat("w", "1"));
    shard.expire("w");
    shard.expect(
        &reclaim(),
        "- claims w: claim 1 idle
         - running a: w T1
         - workers w: -60s
         + meta cursor: 0
         + meta run: run
         + meta turn: 2
         + ready:5: a
         + wake: 1",
    );
}

#[test]
fn what_a_copy_of_a_claim_brings_after_its_worker_was_forgotten_goes_back() {
    let shard = Shard::new();
    shard.call(&submit(&[task("a")]));
    let copied = claim("w", 1, 1);
    let a = claimed(&shard.call(&copied)).tasks.remove(0);
    shard.call(&finish(&[(&a, "o")]));
    shard.call(&heartbeat("w", "1"));
    shard.crash("w");
    shard.call(&submit(&[task("b")]));
    assert_eq!(
        claimed(&shard.call(&copied)).tasks.len(),
        1,
        "w knows nothing of b"
    );
    shard.call(&heartbeat("w", "1"));
    shard.crash("w");
    let state = shard.state();
    assert!(state.hash("running").is_empty());
    assert_eq!(state.list("ready:5"), [padded("b")]);
}

#[test]
fn a_batch_that_was_not_confirmed_goes_back_in_order() {
    let shard = Shard::new();
    shard.call(&submit(
        &["a", "b", "c"].map(|word| task(word).with_completions(name("done"))),
    ));
    let held = shard.claimed("w", 3);
    shard.call(&finish(&[
        (&held[0], "o"),
        (&held[1], "o"),
        (&held[2], "o"),
    ]));
    shard.call(&take("client", 1, "done", 2));
    shard.expire("client");
    shard.expect(
        &reclaim(),
        "- claims client: take 1 done, a ok T2, b ok T2
         - done:done: c ok T2
         - workers client: -60s
         + done:done: a ok T2, b ok T2, c ok T2",
    );
    shard.expect_nothing(&reclaim());
}

#[test]
fn the_tasks_of_an_ended_owner_are_stopped_and_its_list_goes() {
    let shard = Shard::new();
    shard.call(&join("owner", "private"));
    let owned = |word: &str| Task {
        owner: Some(who("owner")),
        expires_ms: (word == "b").then_some(u64::MAX),
        ..task(word).with_completions(name("private"))
    };
    shard.call(&submit(&["a", "b", "c"].map(owned)));
    shard.running("other", "w");
    let held = shard.claimed("w", 1).remove(0);
    shard.claimed("v", 1);
    shard.call(&finish(&[(&held, "o")]));
    shard.claimed("w", 1);
    shard.expire("owner");
    let before = shard.lines();
    assert!(
        before.iter().any(|line| line.starts_with("done:private: ")),
        "{before:#?}"
    );
    shard.call(&reclaim());
    let lines = shard.lines();
    assert!(
        !lines.iter().any(|line| line.contains("private:")),
        "{lines:#?}"
    );
    let stopped: Vec<&String> = lines
        .iter()
        .filter(|line| line.starts_with("cancels"))
        .collect();
    assert_eq!(stopped.len(), 2, "{lines:#?}");
    shard.expect_nothing(&reclaim());
}

#[test]
fn an_owners_list_stays_gone_though_its_last_task_dies_with_its_worker() {
    let shard = Shard::new();
    shard.call(&join("owner", "private"));
    let mut owned = Task {
        owner: Some(who("owner")),
        ..task("a").with_completions(name("private"))
    };
    owned.retry.crashes = 1;
    shard.call(&submit(&[owned]));
    shard.claimed("w", 1);
    shard.expire("w");
    shard.expire("owner");
    shard.call(&reclaim());
    let lines = shard.lines();
    assert!(
        !lines.iter().any(|line| line.contains("private")),
        "{lines:#?}"
    );
    assert!(lines.contains(&"dead a: now p5".to_owned()));
}

#[test]
fn after_a_gap_no_lease_ends_for_one_lease() {
    let shard = Shard::new();
    shard.running("a", "w");
    shard.expire("w");
    shard.set_meta("seen", shard.now_ms() - LEASE * 2 / 3 - 1);
    let answer = shard.expect(
        &reclaim(),
        "- meta seen: -10s
         + meta grace: +20s
         + meta seen: now",
    );
    assert_eq!(texts(&answer), ["grace".to_owned(), LEASE.to_string()]);
    assert_eq!(texts(&shard.expect_nothing(&reclaim()))[0], "grace");
    shard.set_meta("grace", shard.now_ms() - 1);
    assert_eq!(texts(&shard.call(&reclaim())), ["ok", "1", "0"]);
}

#[test]
fn junk_among_the_running_values_stops_nobody() {
    let shard = Shard::new();
    shard.running("a", "w");
    for junk in [
        "",
        "short",
        "a value that names nobody at all but is long enough",
    ] {
        let id = padded(&format!("j{}", junk.len()));
        shard.redis(
            "HSET",
            &[shard.key("running").as_bytes(), &id, junk.as_bytes()],
        );
    }
    shard.expire("w");
    assert_eq!(texts(&shard.call(&reclaim())), ["ok", "1", "0"]);
}

/// Brings a shard to 100,000 running tasks of one worker that has died.
fn with_100_000_running(server: &RedisServer) -> Shard {
    let shard = Shard::on(server);
    for chunk in 0..200 {
        let tasks: Vec<Task> = (0..500).map(|i| task(&format!("{chunk}-{i}"))).collect();
        shard.call(&submit(&tasks));
        shard.call(&claim("w", chunk + 1, 500));
    }
    shard.running("alive", "v");
    shard.expire("w");
    shard
}

/// Walks until nothing is left to do, at most so many calls; answers how many tasks came back.
fn walk(shard: &Shard, calls: usize) -> usize {
    let mut taken = 0;
    for _ in 0..calls {
        let answer = texts(&shard.call(&reclaim()));
        taken += answer[1].parse::<usize>().unwrap();
        if answer[2] == "0" {
            break;
        }
    }
    taken
}

fn assert_all_came_back(shard: &Shard) {
    let state = shard.state();
    assert_eq!(state.hash("running").len(), 1);
    let mut ready = state.list("ready:5");
    ready.sort_unstable();
    ready.dedup();
    assert_eq!(
        (ready.len(), state.list("ready:5").len()),
        (100_000, 100_000)
    );
    assert_eq!(state.hash("claims").len(), 1);
    assert_eq!(state.sorted("workers").len(), 1);
}

#[test]
fn whoever_walks_100_000_running_tasks_another_goes_on_where_it_stopped() {
    let server = RedisServer::start();
    load(&server);
    let shard = with_100_000_running(&server);
    let first = walk(&shard, 200);
    assert!(first > 20_000 && first < 80_000, "{first} in 200 calls");
    assert_eq!(
        texts(&shard.call(&heartbeat("w", ""))),
        ["lost"],
        "it is marked"
    );
    let rest = walk(&shard, 1600);
    assert_eq!(first + rest, 100_000);
    assert_all_came_back(&shard);
}

#[test]
fn a_walk_begins_anew_when_the_server_restarted_in_its_middle() {
    let mut server = RedisServer::builder().aof(true).start();
    load(&server);
    let shard = with_100_000_running(&server);
    let first = walk(&shard, 200);
    server.shutdown();
    server.restart();
    shard.reconnect(&server);
    shard.set_meta("seen", shard.now_ms());
    let rest = walk(&shard, 1200);
    assert_eq!(first + rest, 100_000);
    assert_all_came_back(&shard);
}

#[test]
fn a_worker_that_dies_during_a_walk_is_walked_for_a_whole_turn() {
    let server = RedisServer::start();
    load(&server);
    let shard = with_100_000_running(&server);
    let more: Vec<Task> = (0..200).map(|i| task(&format!("v{i}"))).collect();
    shard.call(&submit(&more));
    shard.claimed("v", 200);
    walk(&shard, 200);
    shard.expire("v"); // about half of what it holds lies behind the cursor
    let rest = walk(&shard, 1600);
    assert!(rest > 0);
    let state = shard.state();
    assert_eq!(
        (state.hash("running").len(), state.list("ready:5").len()),
        (0, 100_201)
    );
    assert!(state.sorted("workers").is_empty());
}

#[test]
fn hundreds_of_workers_that_die_at_once_lose_nothing() {
    let shard = Shard::new();
    for i in 0..250 {
        shard.running(&format!("a{i}"), &format!("w{i}"));
    }
    for i in 0..250 {
        shard.expire(&format!("w{i}"));
    }
    assert_eq!(walk(&shard, 100), 250);
    let state = shard.state();
    assert_eq!(
        (state.list("ready:5").len(), state.hash("running").len()),
        (250, 0)
    );
    assert!(state.hash("claims").is_empty() && state.sorted("workers").is_empty());
}

#[test]
fn a_scheduled_task_is_none_of_reclaims_business() {
    let shard = Shard::new();
    shard.call(&submit_with_due(&[task("a")], &["+30000"]));
    assert_eq!(items(&shard.expect_nothing(&reclaim())).len(), 3);
}
