//! One canonical call of each function, on a shard that is in a state where it has something to do.

use pmq_broker::Task;

use crate::call::Call;
use crate::seed::{
    by_id, cancel, claim_with, claimed, finish, heartbeat, join, leave, log_append, log_read, name,
    process, reclaim, refuse, release, start, submit, submit_with_due, take, task,
};
use crate::shard::{Shard, padded, who};

/// A function with a seed that answers the call.
pub(crate) struct Scenario {
    pub(crate) verb: &'static str,
    /// Brings a fresh shard into a state, and answers the call to make in it.
    pub(crate) prepare: fn(&Shard) -> Call,
}

/// Every function of a shard, in the order of the library.
pub(crate) const SCENARIOS: [Scenario; 24] = [
    Scenario {
        verb: "open",
        prepare: |_| Call::new("open").n(4),
    },
    Scenario {
        verb: "submit",
        prepare: submit_some,
    },
    Scenario {
        verb: "claim",
        prepare: claim_some,
    },
    Scenario {
        verb: "heartbeat",
        prepare: heartbeat_with_orders,
    },
    Scenario {
        verb: "start",
        prepare: |shard| start(&usual(shard)[3], 7),
    },
    Scenario {
        verb: "finish",
        prepare: finish_in_every_way,
    },
    Scenario {
        verb: "release",
        prepare: |shard| release(&[&usual(shard)[0]]),
    },
    Scenario {
        verb: "refuse",
        prepare: |shard| refuse(&[&usual(shard)[0]]),
    },
    Scenario {
        verb: "cancel",
        prepare: cancel_everywhere,
    },
    Scenario {
        verb: "reclaim",
        prepare: reclaim_everybody,
    },
    Scenario {
        verb: "take",
        prepare: |shard| {
            usual(shard);
            take("consumer", 2, "done", 1)
        },
    },
    Scenario {
        verb: "join",
        prepare: |shard| {
            usual(shard);
            join("second", "private")
        },
    },
    Scenario {
        verb: "leave",
        prepare: |shard| {
            usual(shard);
            leave("consumer", false)
        },
    },
    Scenario {
        verb: "requeue",
        prepare: |shard| {
            usual(shard);
            Call::new("requeue").n(10)
        },
    },
    Scenario {
        verb: "purge_dead",
        prepare: |shard| {
            usual(shard);
            Call::new("purge_dead").n(10)
        },
    },
    Scenario {
        verb: "configure",
        prepare: configure_all,
    },
    Scenario {
        verb: "purge",
        prepare: |shard| {
            usual(shard);
            Call::new("purge").n(500)
        },
    },
    Scenario {
        verb: "watch",
        prepare: |shard| {
            usual(shard);
            by_id("watch", &EVERYWHERE)
        },
    },
    Scenario {
        verb: "log_read",
        prepare: |shard| {
            let held = usual(shard);
            log_read(&held[3], "owner", 1)
        },
    },
    Scenario {
        verb: "log_append",
        prepare: append_and_drop,
    },
    Scenario {
        verb: "inspect",
        prepare: |shard| {
            usual(shard);
            Call::new("inspect")
        },
    },
    Scenario {
        verb: "find",
        prepare: |shard| {
            usual(shard);
            by_id("find", &["dead"])
        },
    },
    Scenario {
        verb: "list_dead",
        prepare: |shard| {
            usual(shard);
            Call::new("list_dead").n(0).n(10)
        },
    },
    Scenario {
        verb: "list_started",
        prepare: |shard| {
            usual(shard);
            Call::new("list_started").n(0).n(10)
        },
    },
];

const EVERYWHERE: [&str; 6] = ["ready", "scheduled", "running", "dead", "ended", "unknown"];

/// A shard with something under every key. Four tasks run under `w`, and are the answer.
fn usual(shard: &Shard) -> Vec<crate::seed::Held> {
    shard.set_meta("maxsize", 1000);
    shard.call(&join("owner", "private"));
    shard.submitted(&["suspect"]);
    for _ in 0..2 {
        shard.claimed("poisoned", 1);
        shard.crash("poisoned");
    }
    let to_done = |word: &str| task(word).with_completions(name("done"));
    let owned = Task {
        owner: Some(who("owner")),
        ..to_done("owned")
    };
    shard.call(&submit(&[
        to_done("dead"),
        to_done("ended"),
        to_done("ended2"),
    ]));
    let held = claimed(&shard.call(&claim_with("v", 1, 3, ["", "0", "1"]))).tasks;
    shard.call(&finish(&[
        (&held[0], "g"),
        (&held[1], "o"),
        (&held[2], "o"),
    ]));
    shard.call(&take("consumer", 1, "done", 1));
    shard.call(&submit(&[
        to_done("running"),
        to_done("run2"),
        owned,
        process("run4"),
    ]));
    let held = claimed(&shard.call(&claim_with("w", 1, 4, ["", "0", "1"]))).tasks;
    shard.call(&start(&held[3], 6));
    let holes = (0..3).map(|p| Task {
        priority: p,
        ..task(&format!("hole{p}"))
    });
    shard.call(&submit(&holes.collect::<Vec<_>>()));
    shard.call(&cancel(&["hole0", "hole1", "hole2"]));
    let ready = (0..10).map(|p| Task {
        priority: p,
        ..task(&format!("ready{p}"))
    });
    shard.call(&submit(&ready.collect::<Vec<_>>()));
    shard.submitted(&["ready"]);
    shard.call(&submit_with_due(
        &[to_done("scheduled"), task("due")],
        &["+30000", "+1"],
    ));
    shard.make_due("due");
    shard.call(&cancel(&["run2"]));
    shard.call(&by_id("watch", &["running", "ready", "run4"]));
    shard.call(&log_append(&held[0], 0, &[("o", "some"), ("e", "output")]));
    shard.call(&log_append(&held[1], 0, &[("o", "other output")]));
    held
}

fn submit_some(shard: &Shard) -> Call {
    usual(shard);
    let to = |word: &str, queue: &str| task(word).with_completions(name(queue));
    let ready = Task {
        priority: 8,
        ..to("new1", "done")
    };
    submit_with_due(
        &[ready, to("new2", "elsewhere"), task("ended")],
        &["", "+5", ""],
    )
}

fn claim_some(shard: &Shard) -> Call {
    usual(shard);
    claim_with("w2", 1, 500, ["done", "1", "1"])
}

/// There is no room for two logs, so the other one goes.
fn append_and_drop(shard: &Shard) -> Call {
    let held = usual(shard);
    shard.set_meta("logs_max", 20);
    log_append(&held[0], 10, &[("o", "more"), ("x", "")])
}

fn heartbeat_with_orders(shard: &Shard) -> Call {
    usual(shard);
    heartbeat("w", "1")
}

fn finish_in_every_way(shard: &Shard) -> Call {
    let held = usual(shard);
    finish(&[
        (&held[0], "o"),
        (&held[1], "f"),
        (&held[2], "g"),
        (&held[3], "c"),
    ])
}

fn cancel_everywhere(shard: &Shard) -> Call {
    usual(shard);
    cancel(&EVERYWHERE)
}

fn configure_all(shard: &Shard) -> Call {
    usual(shard);
    shard.set_meta("paused", 1);
    Call::new("configure").args(["paused", "", "retention", "7200000", "completions", "done"])
}

/// Everybody has ended: workers, the consumer, the owner; a turn of the walk takes the owner's row as well.
fn reclaim_everybody(shard: &Shard) -> Call {
    let held = usual(shard);
    for gone in ["w", "v", "consumer", "owner"] {
        shard.expire(gone);
    }
    shard.call(&submit(&[Task {
        owner: Some(who("owner")),
        ..task("alive")
    }]));
    let attempts = [2u16.to_le_bytes(), 2u16.to_le_bytes()].concat();
    let row = [attempts, vec![0; 16]].concat();
    shard.redis(
        "HSET",
        &[shard.key("attempts").as_bytes(), &held[0].id, &row],
    );
    shard.redis(
        "HSET",
        &[shard.key("attempts").as_bytes(), &padded("alive"), &row],
    );
    reclaim()
}
