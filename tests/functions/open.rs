//! open: how many shards a queue has.

use crate::call::{Call, text, texts};
use crate::seed::{claim, submit, task};
use crate::shard::Shard;

fn open(new: &str) -> Call {
    Call::new("open").arg(new)
}

#[test]
fn the_first_who_opens_a_queue_decides_and_the_others_learn() {
    let shard = Shard::new();
    let answer = shard.expect(
        &open("12"),
        "+ meta layout: 1
         + meta shards: 12",
    );
    assert_eq!(text(&answer), "12");
    for later in ["12", "4", ""] {
        assert_eq!(text(&shard.expect_nothing(&open(later))), "12");
    }
}

#[test]
fn who_only_asks_makes_none() {
    let shard = Shard::new();
    assert_eq!(text(&shard.expect_nothing(&open(""))), "0");
}

#[test]
fn a_queue_that_was_used_before_has_one() {
    let shard = Shard::new();
    shard.call(&submit(&[task("old")]));
    for new in ["", "4"] {
        assert_eq!(text(&shard.expect_nothing(&open(new))), "1");
    }
}

#[test]
fn a_number_that_is_none_is_refused() {
    let shard = Shard::new();
    for bad in ["0", "-1", "4097", "1e3", "many", "1.5"] {
        shard.expect_error(&open(bad), "PMQSETTING");
    }
}

#[test]
fn another_shard_than_the_first_is_told_even_if_it_was_used_before() {
    let shard = Shard::new();
    shard.call(&Call::new("configure").arg("maxsize").arg("7"));
    shard.expect(&open("4").arg("1"), "+ meta shards: 4");
    assert_eq!(text(&shard.expect_nothing(&open("5").arg("1"))), "4");
}

#[test]
fn who_knows_of_another_number_of_shards_gets_no_task_and_puts_none() {
    let shard = Shard::new();
    let put = submit(&[task("a")]);
    shard.call(&put);
    let of = |call: &Call, place: usize, shards: &str| {
        let mut call = call.clone();
        call.args.resize(call.args.len().max(place + 1), Vec::new());
        call.args[place] = shards.into();
        call
    };
    let get = claim("w", 1, 1);
    for stale in [of(&submit(&[task("b")]), 2, "4"), of(&get, 7, "4")] {
        assert_eq!(texts(&shard.expect_nothing(&stale)), ["moved"]);
    }
    shard.call(&open("4").arg("1"));
    for stale in [
        of(&put, 2, "1"),
        of(&put, 2, "5"),
        of(&get, 7, "1"),
        get.clone(),
    ] {
        assert_eq!(texts(&shard.expect_nothing(&stale)), ["moved"]);
    }
    assert_eq!(texts(&shard.expect_nothing(&of(&put, 2, "4"))), ["ok", "e"]);
    let claimed = shard.call(&of(&get, 7, "4"));
    assert_eq!(crate::seed::claimed(&claimed).tasks.len(), 1);
}

#[test]
fn a_queue_that_is_being_deleted_is_not_made() {
    let shard = Shard::new();
    shard.call(&open("4"));
    shard.set_meta("deleting", 1);
    for new in ["4", "5", ""] {
        assert_eq!(text(&shard.expect_nothing(&open(new))), "0");
    }
}

#[test]
fn the_look_of_an_idle_worker_makes_no_queue() {
    let shard = Shard::new();
    shard.call(&claim("w", 1, 1));
    assert_eq!(text(&shard.call(&open("4"))), "4");
}
