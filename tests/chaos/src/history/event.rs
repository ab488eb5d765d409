//! What the processes of a run write down: one event, one line of JSON.

use pmq_broker::{Outcome, TaskId};
use serde::{Deserialize, Serialize};

/// One thing that one process saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, in ns of `CLOCK_MONOTONIC`, which all processes of a host share.
    pub t: u64,
    /// The same for people, in ms since the epoch.
    pub wall: u64,
    /// Who saw it. A process that takes a killed one's place has another name.
    pub actor: String,
    /// Its process id.
    pub pid: u32,
    /// What it saw.
    #[serde(flatten)]
    pub what: What,
}

/// How a call ended, as far as its caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Known {
    /// It was done.
    Ok,
    /// It was certainly not done.
    Fail,
    /// It may have been done, or may still be: the caller had no answer.
    Info,
}

/// How a handler's run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunEnd {
    /// It did what it should.
    Ok,
    /// It failed, as its task said.
    Failed,
    /// The worker dropped it.
    Dropped,
}

/// A task as its producer made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// Its id.
    pub id: TaskId,
    /// The hash of its body.
    pub hash: u64,
    /// Failures that make it a dead letter.
    pub attempts: u16,
    /// Deaths of its worker that make it a dead letter.
    pub crashes: u8,
    /// In how many of its first attempts it fails.
    pub fails: u16,
    /// Whether its worker dies of it, in how many of its first attempts.
    pub poison: u16,
    /// Its delay, in ms.
    pub delay_ms: u64,
    /// Its priority.
    pub priority: u8,
    /// The shortest wait before a retry, in ms.
    pub floor_ms: u64,
}

/// What a call on a shared register does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Reads it.
    Read,
    /// Writes this value.
    Write(i64),
    /// Adds this; answers the sum or what was there before, as the object does.
    Add(i64),
    /// Writes the second value where the first stands.
    Exchange(i64, i64),
}

/// What a fault may do, which the checker must know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Effects {
    /// How much of what was acknowledged before it may be lost, in ms; 0 for nothing.
    pub loses_ms: u64,
    /// Whether leases of its target may end by it.
    pub ends_leases: bool,
}

/// The kinds of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ev", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields are named after what they hold")]
pub enum What {
    /// A producer is about to submit these, in this order.
    Submit {
        op: u64,
        queue: String,
        tasks: Vec<Planned>,
    },
    /// What it was answered: one letter a task, n new, e exists, d ended.
    Submitted {
        op: u64,
        outcome: Known,
        letters: String,
        err: Option<String>,
    },
    /// The id of a task is used for other content on purpose.
    Clash { id: TaskId, outcome: Known },
    /// A producer is about to cancel a task.
    Cancel { id: TaskId },
    /// What it was answered.
    Cancelled {
        id: TaskId,
        outcome: Known,
        answer: String,
    },
    /// A worker was given tasks, in this order, under this token.
    Claimed {
        queue: String,
        token: u64,
        ids: Vec<TaskId>,
    },
    /// A handler begins.
    Start {
        id: TaskId,
        queue: String,
        attempt: u16,
        token: u64,
        hash: u64,
    },
    /// The effect of a run outside of Redis.
    Effect {
        id: TaskId,
        attempt: u16,
        token: u64,
    },
    /// A handler's run is over.
    End { id: TaskId, token: u64, how: RunEnd },
    /// What a worker was answered that ended a run.
    Finished {
        id: TaskId,
        token: u64,
        outcome: Known,
        answer: String,
    },
    /// A consumer got a completion.
    Completion {
        id: TaskId,
        queue: String,
        token: u64,
        attempt: u16,
        outcome: Outcome,
        finished_us: u64,
    },
    /// Who waited for a task learned that it has ended.
    Waited { id: TaskId, token: u64 },
    /// Where a task is after the drain, and how it ended.
    Final {
        id: TaskId,
        state: String,
        token: u64,
        outcome: Option<Outcome>,
    },
    /// A lock was granted to a call that began then.
    Acquired {
        lock: String,
        fence: u64,
        began: u64,
    },
    /// The holder found at `at` that it holds the lock.
    Held { lock: String, fence: u64, at: u64 },
    /// The holder learned that it has lost the lock.
    Lost { lock: String, fence: u64 },
    /// The holder gave it back.
    Released {
        lock: String,
        fence: u64,
        outcome: Known,
    },
    /// A store that remembers the highest fence was written to.
    Guarded {
        lock: String,
        fence: u64,
        accepted: bool,
    },
    /// A sender is about to put an item; its items are numbered.
    Put { queue: String, seq: u64 },
    /// What it was answered.
    PutDone {
        queue: String,
        seq: u64,
        outcome: Known,
    },
    /// A receiver got an item of a sender.
    Got {
        queue: String,
        sender: String,
        seq: u64,
    },
    /// A receiver's call ended without an item; what it may have got meanwhile goes back to the head.
    Missed { queue: String },
    /// A call on a register begins.
    Call { call: u64, key: String, op: Op },
    /// It ended, with this answer.
    Return {
        call: u64,
        key: String,
        outcome: Known,
        answer: Option<i64>,
    },
    /// A fault begins or ends.
    Fault {
        name: String,
        target: String,
        on: bool,
        effects: Effects,
    },
    /// This process stood still for so long without being told to, in ms.
    Stall { ms: u64 },
    /// The harness pushed records of these ids into Redis that nobody can run.
    Junk { ids: Vec<TaskId> },
    /// The run comes to its next part.
    Phase { name: String },
    /// A queue's tasks by state at one moment, and what is wrong with them.
    Snapshot {
        queue: String,
        tasks: u64,
        ready: u64,
        scheduled: u64,
        running: u64,
        dead: u64,
        completions: u64,
        wrong: Vec<String>,
    },
    /// What a process or the broker has, to be compared.
    Census {
        of: String,
        when: String,
        what: String,
        count: u64,
    },
}
