//! heartbeat: a lease renewed, and what is to be stopped.

use redis::Value;

use crate::call::{bytes, items, text, texts};
use crate::seed::{LEASE, cancel, finish, heartbeat, join, name, reclaim, submit, take, task};
use crate::shard::{Shard, padded};

/// The stop orders of an answer.
fn orders(answer: &Value) -> Vec<u8> {
    bytes(&items(answer)[2])
}

#[test]
fn a_lease_is_renewed_also_a_late_one() {
    let shard = Shard::new();
    shard.running("a", "w");
    shard.expire("w");
    let call = heartbeat("w", "");
    let answer = shard.expect(
        &call,
        "- workers w: -60s
         + workers w: +20s",
    );
    let answer = items(&answer);
    assert_eq!(
        [text(&answer[0]), text(&answer[3])],
        ["ok", "1"],
        "its own lease had ended"
    );
    assert_eq!(text(&items(&shard.expect_nothing(&call))[3]), "0");
}

#[test]
fn a_stranger_and_an_ended_worker_have_lost() {
    let shard = Shard::new();
    shard.running("a", "w");
    assert_eq!(
        texts(&shard.expect_nothing(&heartbeat("stranger", ""))),
        ["lost"]
    );
    shard.redis(
        "ZADD",
        &[shard.key("workers").as_bytes(), b"-1", &padded("w")],
    );
    assert_eq!(texts(&shard.expect_nothing(&heartbeat("w", ""))), ["lost"]);
}

#[test]
fn a_worker_that_holds_nothing_lets_its_row_end() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    shard.call(&finish(&[(&held, "o")]));
    let call = heartbeat("w", "1");
    shard.expect(
        &call,
        "- claims w: claim 1 a
         + claims w: claim 1 idle",
    );
    shard.expect_nothing(&call);
    // Its next claim is a worker's again, and the belated heartbeat says nothing of it.
    shard.running("b", "w");
    shard.expect_nothing(&call);
}

#[test]
fn stop_orders_are_told_until_their_runs_are_over() {
    let shard = Shard::new();
    let a = shard.running("a", "w");
    let b = shard.running("b", "w");
    shard.call(&cancel(&["a"]));
    let call = heartbeat("w", "");
    let first = orders(&shard.expect_nothing(&call));
    assert_eq!(first, [&padded("a")[..], &[15]].concat());
    let mut done = call;
    done.args[3].clone_from(&first);
    // Another order has come since: all are told again.
    shard.call(&cancel(&["b"]));
    let both = orders(&shard.expect_nothing(&done));
    assert_eq!(both, [first, padded("b").to_vec(), vec![15]].concat());
    // A run that is still ending would begin anew if its worker died and the order were gone.
    done.args[3].clone_from(&both);
    assert_eq!(orders(&shard.expect_nothing(&done)), both);
    shard.call(&finish(&[(&a, "c")]));
    let left = orders(&shard.expect(&done, "- cancels w: a 15, b 15\n+ cancels w: b 15"));
    assert_eq!(left, [&padded("b")[..], &[15]].concat());
    done.args[3] = left;
    shard.call(&finish(&[(&b, "c")]));
    let none = shard.expect(&done, "- cancels w: b 15");
    assert!(orders(&none).is_empty());
    assert!(orders(&shard.expect_nothing(&done)).is_empty());
}

#[test]
fn a_gap_of_two_fifths_of_a_lease_begins_a_time_of_grace() {
    let shard = Shard::new();
    shard.running("a", "w");
    let gap = |ms: u64| shard.set_meta("seen", shard.now_ms() - ms);
    // An idle worker alone may be silent for a third of a lease.
    gap(LEASE / 3);
    shard.call(&heartbeat("w", ""));
    assert_eq!(shard.state().meta("grace"), None);
    for (away, lasts) in [(LEASE * 2 / 5 + 1, LEASE * 3 / 5), (LEASE * 9, LEASE)] {
        gap(away);
        shard.call(&heartbeat("w", ""));
        let state = shard.state();
        let at = |name| state.meta(name).unwrap().parse::<u64>().unwrap();
        let grace = at("grace") - at("seen");
        assert!((lasts..lasts + 1000).contains(&grace), "{grace}");
        shard.expect_nothing(&heartbeat("w", ""));
    }
}

#[test]
fn a_worker_is_told_what_it_was_last_granted_and_by_which_history() {
    let shard = Shard::new();
    let told = || {
        let answer = shard.call(&heartbeat("w", ""));
        items(&answer)[4..].iter().map(text).collect::<Vec<_>>()
    };
    let a = shard.running("a", "w");
    let [history, number, token] = told().try_into().unwrap();
    assert_eq!(history.len(), 40);
    assert_eq!(number, "1");
    assert_eq!(token.parse(), Ok(a.token()));
    let b = shard.running("b", "w");
    let tokens = [a.token(), b.token()].map(|token| token.to_string());
    assert_eq!(told(), [history.clone(), "2".to_owned(), tokens[1].clone()]);
    // It says so also when it holds nothing.
    shard.call(&finish(&[(&a, "o"), (&b, "o")]));
    shard.call(&heartbeat("w", "2"));
    assert_eq!(told(), [history, "2".to_owned(), tokens[1].clone()]);
}

#[test]
fn a_client_that_beats_does_not_hide_an_outage_from_workers() {
    let shard = Shard::new();
    shard.call(&submit(&[task("a").with_completions(name("done"))]));
    let held = shard.claimed("w", 1);
    shard.call(&finish(&[(&held[0], "o")]));
    shard.call(&take("consumer", 1, "done", 1));
    shard.call(&join("owner", "private"));
    shard.set_meta("seen", shard.now_ms() - LEASE * 2 / 3 - 1);
    shard.expect_nothing(&heartbeat("consumer", ""));
    shard.expect_nothing(&heartbeat("owner", ""));
    let answer = shard.expect(
        &reclaim(),
        "- meta seen: -10s
         + meta grace: +20s
         + meta seen: now",
    );
    assert_eq!(text(&items(&answer)[0]), "grace");
}

#[test]
fn an_owner_renews_its_lease_too() {
    let shard = Shard::new();
    shard.call(&join("owner", "private"));
    shard.expire("owner");
    shard.expect(
        &heartbeat("owner", ""),
        "- workers owner: -60s
         + workers owner: +20s",
    );
}
