//! Short ways to write histories in tests.

use pmq_broker::{Outcome, TaskId};

use super::Violation;
use crate::history::{Effects, Event, History, Known, Planned, RunEnd, What};

/// The id number `n`.
pub(super) fn id(n: u8) -> TaskId {
    TaskId::from_slice(&[n; 16]).unwrap()
}

/// An event at `ms`.
pub(super) fn at(ms: u64, actor: &str, what: What) -> Event {
    Event {
        t: ms * 1_000_000,
        wall: ms,
        actor: actor.to_owned(),
        pid: 1,
        what,
    }
}

pub(super) fn planned(n: u8) -> Planned {
    Planned {
        id: id(n),
        hash: u64::from(n),
        attempts: 4,
        crashes: 3,
        fails: 0,
        poison: 0,
        delay_ms: 0,
        priority: 5,
        floor_ms: 100,
    }
}

/// A producer that submits these tasks at 0 ms, and is answered at 1 ms.
pub(super) fn submitted(tasks: &[u8]) -> Vec<Event> {
    let plans = tasks.iter().map(|n| planned(*n)).collect();
    vec![
        at(0, "producer", submit(1, plans)),
        at(
            1,
            "producer",
            answered(1, Known::Ok, &"n".repeat(tasks.len())),
        ),
    ]
}

pub(super) fn submit(op: u64, tasks: Vec<Planned>) -> What {
    let queue = "q".to_owned();
    What::Submit { op, queue, tasks }
}

pub(super) fn answered(op: u64, outcome: Known, letters: &str) -> What {
    let letters = letters.to_owned();
    What::Submitted {
        op,
        outcome,
        letters,
        err: None,
    }
}

pub(super) fn start(n: u8, attempt: u16, token: u64) -> What {
    let (id, hash, queue) = (id(n), u64::from(n), "q".to_owned());
    What::Start {
        id,
        queue,
        attempt,
        token,
        hash,
    }
}

pub(super) fn end(n: u8, token: u64, how: RunEnd) -> What {
    What::End {
        id: id(n),
        token,
        how,
    }
}

pub(super) fn completion(n: u8, token: u64, outcome: Outcome) -> What {
    let (queue, finished_us) = ("q".to_owned(), token + 1);
    What::Completion {
        id: id(n),
        queue,
        token,
        attempt: 1,
        outcome,
        finished_us,
    }
}

pub(super) fn done(n: u8, token: u64) -> What {
    completion(n, token, Outcome::Ok)
}

pub(super) fn finality(n: u8, state: &str) -> What {
    let (id, state) = (id(n), state.to_owned());
    What::Final {
        id,
        state,
        token: 0,
        outcome: None,
    }
}

pub(super) fn fault(target: &str, effects: Effects) -> What {
    let (name, target) = ("fault".to_owned(), target.to_owned());
    What::Fault {
        name,
        target,
        on: true,
        effects,
    }
}

pub(super) fn loses(loses_ms: u64) -> Effects {
    Effects {
        loses_ms,
        ..Effects::default()
    }
}

pub(super) fn ends_leases() -> Effects {
    Effects {
        ends_leases: true,
        ..Effects::default()
    }
}

pub(super) fn phase(name: &str) -> What {
    What::Phase {
        name: name.to_owned(),
    }
}

/// A history of several parts.
pub(super) fn history(parts: impl IntoIterator<Item = Event>) -> History {
    History::of(parts.into_iter().collect())
}

/// What was said to be wrong, one line each.
pub(super) fn lines(violations: &[Violation]) -> Vec<String> {
    violations
        .iter()
        .map(|violation| violation.what.clone())
        .collect()
}
