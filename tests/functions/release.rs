//! release: runs handed back unfinished.

use pmq_broker::Task;

use crate::call::text;
use crate::seed::{finish, release, submit, task};
use crate::shard::Shard;

#[test]
fn released_tasks_stand_at_the_head_of_their_list_again_in_order() {
    let shard = Shard::new();
    shard.submitted(&["a", "b", "c", "d"]);
    let held = shard.claimed("w", 3);
    let call = release(&[&held[0], &held[2]]);
    let answer = shard.expect(
        &call,
        "- ready:5: d
         - running a: w T1
         - running c: w T1
         + ready:5: a c d",
    );
    assert_eq!(text(&answer), "oo");
    assert_eq!(text(&shard.expect_nothing(&call)), "ll");
}

#[test]
fn a_released_run_has_used_up_nothing_and_keeps_its_priority() {
    let shard = Shard::new();
    shard.call(&submit(&[Task {
        priority: 8,
        ..task("a")
    }]));
    let held = shard.claimed("w", 1).remove(0);
    shard.expect(
        &release(&[&held]),
        "- running a: w T1 run 1
         + ready:8: a
         + wake: 1",
    );
    let again = shard.claimed("w", 1).remove(0);
    assert_ne!(again.run, held.run, "under a new token");
}

#[test]
fn only_the_holder_can_release() {
    let shard = Shard::new();
    let old = shard.running("a", "slow");
    shard.crash("slow");
    let new = shard.claimed("w", 1).remove(0);
    assert_eq!(text(&shard.expect_nothing(&release(&[&old]))), "l");
    shard.call(&finish(&[(&new, "o")]));
    assert_eq!(text(&shard.expect_nothing(&release(&[&new]))), "l");
}

#[test]
fn a_run_named_twice_is_handed_back_once() {
    let shard = Shard::new();
    let held = shard.running("a", "w");
    let answer = text(&shard.call(&release(&[&held, &held])));
    assert!(answer == "ol" || answer == "lo", "{answer}");
    assert_eq!(shard.state().list("ready:5").len(), 1);
}
