//! join and leave: the lives of owners and consumers.

use crate::call::texts;
use crate::seed::{finish, join, leave, name, submit, take, task};
use crate::shard::{Shard, padded};

#[test]
fn an_owner_joins_under_a_lease_and_joining_again_renews() {
    let shard = Shard::new();
    let call = join("owner", "private");
    let answer = shard.expect(
        &call,
        "+ claims owner: owner of private
         + meta layout: 1
         + workers owner: +20s",
    );
    assert_eq!(texts(&answer), ["ok"]);
    assert_eq!(texts(&shard.expect_nothing(&call)), ["ok"]);
    shard.redis(
        "ZADD",
        &[shard.key("workers").as_bytes(), b"-1", &padded("owner")],
    );
    assert_eq!(texts(&shard.expect_nothing(&call)), ["lost"]);
}

#[test]
fn an_owner_leaves_and_its_private_list_goes() {
    let shard = Shard::new();
    shard.call(&join("owner", "private"));
    shard.call(&submit(&[task("a").with_completions(name("private"))]));
    let held = shard.claimed("w", 1);
    shard.call(&finish(&[(&held[0], "o")]));
    let call = leave("owner", true);
    let answer = shard.expect(
        &call,
        "- claims owner: owner of private
         - done:private: a ok T1
         - names: private
         - wake.done:private: 1
         - workers owner: +20s",
    );
    assert_eq!(texts(&answer), ["ok"]);
    assert_eq!(texts(&shard.expect_nothing(&call)), ["ok"]);
}

#[test]
fn a_consumer_leaves_and_confirms_or_gives_back_what_it_took() {
    for confirm in [true, false] {
        let shard = Shard::new();
        shard.call(&submit(&[task("a").with_completions(name("done"))]));
        let held = shard.claimed("w", 1);
        shard.call(&finish(&[(&held[0], "o")]));
        shard.call(&take("client", 1, "done", 1));
        let given_back = if confirm {
            ""
        } else {
            "\n+ done:done: a ok T2\n+ names: done\n+ wake.done:done: 1"
        };
        let call = leave("client", confirm);
        shard.expect(
            &call,
            &format!("- claims client: take 1 done, a ok T2\n- workers client: +20s{given_back}"),
        );
        shard.expect_nothing(&call);
    }
}

#[test]
fn a_worker_can_not_leave_what_it_holds() {
    let shard = Shard::new();
    shard.running("a", "w");
    shard.expect_nothing(&leave("w", true));
}
