//! Casts: who takes part in a run.

use crate::role::{Mix, Role};

/// Two queues, one producer each and one for both, workers on both, a consumer a queue and a spare one.
pub(super) fn usual() -> Vec<(String, Role)> {
    let mut cast = workers(3, &["q", "r"]);
    cast.push(producer(0, &["q", "r"], 150, Mix::VARIED));
    cast.push(producer(1, &["q"], 100, Mix::VARIED));
    cast.extend(consumers(&["q", "r", "q"]));
    cast
}

/// One queue with everything of it.
pub(super) fn lone() -> Vec<(String, Role)> {
    let mut cast = workers(3, &["q"]);
    cast.push(producer(0, &["q"], 100, Mix::VARIED));
    cast.push(producer(1, &["q"], 50, Mix::VARIED));
    cast.extend(consumers(&["q", "q"]));
    cast
}

/// The same, with one consumer: while it stands, completions stay where they are. And somebody who waits for tasks.
pub(super) fn slow() -> Vec<(String, Role)> {
    let mut cast = workers(3, &["q"]);
    cast.push(producer(0, &["q"], 150, Mix::VARIED));
    cast.extend(consumers(&["q"]));
    for n in 0..2 {
        let queue = "q".to_owned();
        cast.push((format!("waiter-{n}"), Role::Waiter { queue }));
    }
    cast
}

/// Runs that outlast an outage, in workers of which some are back before the others.
pub(super) fn outage() -> Vec<(String, Role)> {
    let mut cast = workers(6, &["q"]);
    let mix = Mix {
        longest_ms: 4000,
        ..Mix::PLAIN
    };
    cast.push(producer(0, &["q"], 30, mix));
    cast.extend(consumers(&["q"]));
    cast
}

/// No delays and no retries: by which clock would they be early?
pub(super) fn clock() -> Vec<(String, Role)> {
    let mut cast = workers(3, &["q"]);
    cast.push(producer(0, &["q"], 60, Mix::PLAIN));
    cast.push(producer(1, &["q"], 60, Mix::PLAIN));
    cast.extend(consumers(&["q", "q"]));
    cast.extend(holders(2));
    cast
}

pub(super) fn soak() -> Vec<(String, Role)> {
    let mut cast = workers(3, &["q"]);
    let mix = Mix {
        longest_ms: 4,
        ..Mix::PLAIN
    };
    cast.push(producer(0, &["q"], 560, mix));
    cast.extend(consumers(&["q"]));
    cast
}

pub(super) fn zombie() -> Vec<(String, Role)> {
    let mut cast = workers(2, &["q"]);
    let hand = |n: u8, queue: &str, lazy| {
        (
            format!("hand-{n}"),
            Role::Hand {
                queue: queue.to_owned(),
                lazy,
            },
        )
    };
    cast.extend([
        hand(0, "q", true),
        hand(1, "q", true),
        hand(4, "q", true),
        hand(2, "ordered", false),
        hand(3, "ordered", false),
    ]);
    // Long enough that a late end often meets a later run.
    let long = Mix {
        longest_ms: 1500,
        ..Mix::VARIED
    };
    cast.push(producer(0, &["q"], 40, long));
    cast.push(producer(1, &["ordered"], 100, Mix::PLAIN));
    cast.extend(consumers(&["q", "ordered"]));
    cast
}

pub(super) fn reset() -> Vec<(String, Role)> {
    let mut cast = usual();
    cast.extend(holders(3));
    cast
}

pub(super) fn poison() -> Vec<(String, Role)> {
    let mut cast = workers(4, &["q"]);
    let mix = Mix {
        poison: true,
        large: 1 << 20,
        ..Mix::VARIED
    };
    cast.push(producer(0, &["q"], 60, mix));
    cast.extend(consumers(&["q"]));
    cast
}

pub(super) fn object() -> Vec<(String, Role)> {
    let mut cast = holders(3);
    for n in 0..2 {
        let queue = "plain".to_owned();
        cast.push((
            format!("sender-{n}"),
            Role::Sender {
                queue: queue.clone(),
                rate: 50,
            },
        ));
        cast.push((format!("receiver-{n}"), Role::Receiver { queue }));
        cast.push((format!("registers-{n}"), Role::Registers { keys: 3 }));
    }
    cast
}

pub(super) fn herd() -> Vec<(String, Role)> {
    let crowd = |n| {
        (
            format!("crowd-{n}"),
            Role::Crowd {
                queue: "q".to_owned(),
                workers: 250,
            },
        )
    };
    let mut cast: Vec<_> = (0..4).map(crowd).collect();
    cast.push(producer(0, &["q"], 20, Mix::PLAIN));
    cast.extend(consumers(&["q"]));
    cast
}

fn names(queues: &[&str]) -> Vec<String> {
    queues.iter().map(|queue| (*queue).to_owned()).collect()
}

fn workers(n: u8, queues: &[&str]) -> Vec<(String, Role)> {
    let worker = |n| {
        (
            format!("worker-{n}"),
            Role::Worker {
                queues: names(queues),
                slots: 12,
            },
        )
    };
    (0..n).map(worker).collect()
}

fn producer(n: u8, queues: &[&str], rate: u64, mix: Mix) -> (String, Role) {
    (
        format!("producer-{n}"),
        Role::Producer {
            queues: names(queues),
            rate,
            mix,
        },
    )
}

fn consumers(queues: &[&str]) -> Vec<(String, Role)> {
    let consumer = |(n, queue): (usize, &&str)| {
        (
            format!("consumer-{n}"),
            Role::Consumer {
                queue: (*queue).to_owned(),
            },
        )
    };
    queues.iter().enumerate().map(consumer).collect()
}

fn holders(n: u8) -> Vec<(String, Role)> {
    (0..n)
        .map(|n| {
            (
                format!("holder-{n}"),
                Role::Holder {
                    lock: "door".to_owned(),
                },
            )
        })
        .collect()
}
