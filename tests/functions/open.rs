//! open: how many shards a queue has.

use crate::call::{Call, text};
use crate::seed::{submit, task};
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
