//! What a role could do to its queues without the functions, with the commands that they run inside.

use super::{Grant, Role};

/// Something that rules cannot keep a user from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// The command that it takes.
    pub command: &'static str,
    /// What could be done with it.
    pub what: &'static str,
    /// What comes of it where workers and consumers have an authkey.
    pub with_authkey: &'static str,
}

const READS: &str = "no help; --encrypt hides bodies and results";
const NO_HELP: &str = "no help";

const ALL: &[(&[&str], Exposure)] = &[
    (
        &["hget", "hmget", "hgetall"],
        Exposure {
            command: "HGET",
            what: "read every task and every result of its queues",
            with_authkey: READS,
        },
    ),
    (
        &["hset"],
        Exposure {
            command: "HSET",
            what: "invent a task, change one, move one to another id or queue",
            with_authkey: "a dead letter, with an audit line",
        },
    ),
    (
        &["hset"],
        Exposure {
            command: "HSET",
            what: "put a task that has ended back, to run again",
            with_authkey: "the same until it expires (7 days unless set), then a dead letter",
        },
    ),
    (
        &["hset", "rpush"],
        Exposure {
            command: "HSET, RPUSH",
            what: "forge a completion, or a result by id",
            with_authkey: "not believed, with an audit line",
        },
    ),
    (
        &["hset", "rpush"],
        Exposure {
            command: "HSET, RPUSH",
            what: "say that a task was cancelled or is dead",
            with_authkey: "no help: the broker itself says so without a signature",
        },
    ),
    (
        &["hset"],
        Exposure {
            command: "HSET",
            what: "order running tasks to stop, change settings, use up attempts",
            with_authkey: NO_HELP,
        },
    ),
    (
        &["hdel", "unlink", "lpop", "blpop", "zrem"],
        Exposure {
            command: "HDEL, UNLINK, LPOP",
            what: "delete or withhold tasks and completions",
            with_authkey: NO_HELP,
        },
    ),
    (
        &["zadd"],
        Exposure {
            command: "ZADD",
            what: "end or prolong leases, so that tasks run twice or wait",
            with_authkey: NO_HELP,
        },
    ),
    (
        &["publish"],
        Exposure {
            command: "PUBLISH",
            what: "spread news that nothing is behind; who hears it looks, and finds nothing",
            with_authkey: NO_HELP,
        },
    ),
    (
        &["xadd"],
        Exposure {
            command: "XADD",
            what: "write into the log of a process",
            with_authkey: "no help: logs are not signed",
        },
    ),
];

/// What could be done without the functions, by who has this grant.
#[must_use]
pub fn exposures(grant: &Grant) -> Vec<Exposure> {
    let commands = grant.commands();
    let has = |wanted: &[&str]| wanted.iter().any(|command| commands.contains(*command));
    let mut found: Vec<Exposure> = ALL
        .iter()
        .filter(|(wanted, _)| has(wanted))
        .map(|(_, exposure)| *exposure)
        .collect();
    if grant.roles.contains(&Role::Admin) {
        found.push(Exposure {
            command: "FUNCTION LOAD",
            what: "load functions of its own, which run with the rights of who calls them",
            with_authkey: NO_HELP,
        });
    }
    found
}
