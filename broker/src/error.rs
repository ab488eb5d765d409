//! What can go wrong, and what to do about it.

use crate::connection::{Insecurity, TlsProblem};
use crate::ids::{Name, TaskId};
use crate::sealing::Distrust;

/// Why a call to the broker failed. [`Error::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name outside the grammar of names.
    #[error("'{text}' is no name: use 1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit")]
    BadName {
        /// The text, cut to 80 characters.
        text: String,
    },

    /// A text that is no UUID.
    #[error("'{text}' is no task id: an id is a UUID")]
    BadId {
        /// The text, cut to 80 characters.
        text: String,
    },

    /// A task beyond a limit. Nothing was sent.
    #[error("{what} has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// What is too large: the body, the header.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },

    /// An option of a task that makes no sense. Nothing was sent.
    #[error("{0}")]
    BadOption(String),

    /// Bytes that are no envelope or no completion of a version that this program knows.
    #[error("unreadable {what}: {why}")]
    Unreadable {
        /// Envelope or completion.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },

    /// A task or completion that nobody with an accepted authkey has made as it is. It was not read any further.
    #[error("untrusted {what}: {why}")]
    Untrusted {
        /// Task or completion.
        what: &'static str,
        /// What is wrong with its signature.
        why: Distrust,
    },

    /// An encrypted body, and no authkey here.
    #[error("the {what} is encrypted, and there is no authkey here")]
    Encrypted {
        /// Task or completion.
        what: &'static str,
    },

    /// The id is taken by a task with another name, argv or body.
    #[error("task {id} exists with other content")]
    Conflict {
        /// The id.
        id: TaskId,
    },

    /// The queue, or the completion queue of its tasks, is at its limit. Nothing of the call was taken.
    #[error("{what} of queue {queue} are full at {limit}")]
    Full {
        /// The queue.
        queue: Name,
        /// `tasks` or `completions`.
        what: String,
        /// The limit.
        limit: u64,
    },

    /// The queue has another number of shards, which stays as it is for as long as the queue is there.
    #[error("queue {queue} has {has} shards, not {wanted}, and that number is fixed")]
    Shards {
        /// The queue.
        queue: Name,
        /// How many it has.
        has: u16,
        /// How many were asked for.
        wanted: u16,
    },

    /// The queue was deleted while this process used it. It may have been made again, with another number of shards.
    #[error("queue {queue} was deleted while it was in use here")]
    Deleted {
        /// The queue.
        queue: Name,
    },

    /// The lease ended: another worker may hold what this one held.
    #[error("lost the lease on queue {queue}")]
    LeaseLost {
        /// The queue.
        queue: Name,
    },

    /// What was held is no longer held: its lease ended, or somebody took it away.
    #[error("{kind} {name} was lost: its lease ended, or somebody released it by force")]
    GrantLost {
        /// The word for the object.
        kind: &'static str,
        /// Its name.
        name: Name,
    },

    /// A release of what nobody holds. In Python this is `ValueError` of `Lock.release`.
    #[error("{kind} {name} released too many times")]
    NotHeld {
        /// The word for the object.
        kind: &'static str,
        /// Its name.
        name: Name,
    },

    /// A release of a reentrant lock by somebody who does not own it. In Python this is `AssertionError` of
    /// `RLock.release`.
    #[error("rlock {name} is not owned by this task")]
    NotOwner {
        /// Its name.
        name: Name,
    },

    /// A call of a condition without its lock. In Python this is `AssertionError`.
    #[error("must acquire {kind} {name} before using {call}()")]
    NotAcquired {
        /// The word for the object.
        kind: &'static str,
        /// Its name.
        name: Name,
        /// The call.
        call: &'static str,
    },

    /// The barrier is broken, or was while this party waited. In Python this is `BrokenBarrierError`.
    #[error("barrier {name} is broken")]
    BrokenBarrier {
        /// Its name.
        name: Name,
    },

    /// The action of a barrier failed in this process, which broke the barrier.
    #[error("the action of barrier {name} failed")]
    BarrierAction {
        /// Its name.
        name: Name,
        /// The action's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// An end of a pipe is no longer held: its lease ended, as the broker was away or this process stood still.
    #[error(
        "this end of pipe {name} was lost: its lease ended, so the other end takes it for closed"
    )]
    EndLost {
        /// The pipe's name.
        name: Name,
    },

    /// The ticket for an end of a pipe holds it no more.
    #[error("the ticket for an end of pipe {name} was opened before, or not within 60 s")]
    TicketGone {
        /// The pipe's name.
        name: Name,
    },

    /// The object exists with another size.
    #[error("{kind} {name} has {size}, not {asked}")]
    OtherSize {
        /// The word for the object.
        kind: &'static str,
        /// Its name.
        name: Name,
        /// The size that it has.
        size: u64,
        /// The size that was asked for.
        asked: u64,
    },

    /// This process has closed the object. In Python this is `ValueError` of `Queue.put`, `OSError` of `Queue.empty`.
    #[error("{kind} {name} is closed")]
    Closed {
        /// The word for the object.
        kind: &'static str,
        /// Its name.
        name: Name,
    },

    /// `join_thread` before `close`. In Python this is `AssertionError`.
    #[error("{kind} {name} is not closed")]
    NotClosed {
        /// The word for the object.
        kind: &'static str,
        /// Its name.
        name: Name,
    },

    /// More items are told to be finished than were put. In Python this is `ValueError` of `JoinableQueue.task_done`.
    #[error("task_done of queue {name} called too many times")]
    TooManyDone {
        /// The queue.
        name: Name,
    },

    /// An index beyond the ends. In Python this is `IndexError`.
    #[error("index out of range in {kind} {name}")]
    OutOfRange {
        /// The word for the object.
        kind: &'static str,
        /// Its name.
        name: Name,
    },

    /// No such item, key or attribute. In Python this is `ValueError`, `KeyError` or `AttributeError`.
    #[error("{kind} {name} has no such item")]
    Missing {
        /// The word for the object.
        kind: &'static str,
        /// Its name.
        name: Name,
    },

    /// A sum beyond the integer's type. Nothing was added.
    #[error("the sum does not fit into the integers of {kind} {name}")]
    Overflow {
        /// The word for the object.
        kind: &'static str,
        /// Its name.
        name: Name,
    },

    /// The object changed while it was read or rewritten over several calls. Nothing was written.
    #[error("{kind} {name} changed meanwhile")]
    Changed {
        /// The word for the object.
        kind: &'static str,
        /// Its name.
        name: Name,
    },

    /// An anonymous object that nobody holds any more, or one that nobody has made.
    #[error("{kind} {name} is not there")]
    Gone {
        /// The word for the object.
        kind: &'static str,
        /// Its name.
        name: Name,
    },

    /// The data was written by a newer pmq.
    #[error("{0}")]
    NewerLayout(String),

    /// A URL that can't be used.
    #[error("unusable Redis URL: {0}")]
    BadUrl(String),

    /// The broker can't be reached, or did not answer in time. Whether a call ran is unknown.
    #[error("could not reach the broker at {at}")]
    Unreachable {
        /// The address, without secrets.
        at: String,
        /// The cause.
        #[source]
        source: redis::RedisError,
    },

    /// No TLS connection came about, so nothing was sent.
    #[error("could not speak TLS with the broker at {at}: {problem}")]
    Tls {
        /// The address, without secrets.
        at: String,
        /// What is wrong.
        problem: TlsProblem,
    },

    /// The connection would not be safe, or is not what was asked for.
    #[error("the broker at {at} {why}")]
    Insecure {
        /// The address, without secrets.
        at: String,
        /// What is not as it should be.
        why: Insecurity,
    },

    /// User or password are wrong, or missing.
    #[error("the broker at {at} refused the login")]
    Login {
        /// The address, without secrets.
        at: String,
        /// The cause.
        #[source]
        source: redis::RedisError,
    },

    /// The user may not do this.
    #[error("the broker at {at} denied the call")]
    Denied {
        /// The address, without secrets.
        at: String,
        /// The cause.
        #[source]
        source: redis::RedisError,
    },

    /// The broker's memory is full, so it takes no new tasks.
    #[error("the broker's memory is full")]
    OutOfMemory(#[source] redis::RedisError),

    /// The broker cannot save its data, so it takes no changes.
    #[error("the broker at {at} cannot write to its disk")]
    CannotWrite {
        /// The address, without secrets.
        at: String,
        /// The cause.
        #[source]
        source: redis::RedisError,
    },

    /// With a [`Durability`](crate::Durability) beyond `Local`: the call ran on the primary, so that what it submits may exist, but
    /// no replica confirmed it within a second. A failure of the primary now may lose it.
    #[error(
        "no replica of the broker at {at} confirmed the call to {doing}, which took effect: a failover may lose it"
    )]
    Unconfirmed {
        /// The address, without secrets.
        at: String,
        /// The call.
        doing: &'static str,
    },

    /// What answers is not a Redis or Valkey that pmq can use.
    #[error("{0}")]
    Unsuitable(String),

    /// A key of ours holds something else, or an answer has an unknown shape.
    #[error("the broker answered in an unexpected way to {doing}")]
    Unexpected {
        /// The call.
        doing: &'static str,
        /// The cause.
        #[source]
        source: redis::RedisError,
    },

    /// The system has no thread, memory or file left for a thread of this library: the one that looks after locks, queues and
    /// the other objects of this process, or one that opens the local broker.
    /// Nothing was sent.
    #[error("could not start a thread")]
    NoThread(#[source] std::io::Error),

    /// The local broker could not be used.
    #[error(transparent)]
    Local(#[from] crate::connection::local::LocalError),
}

/// What the broker's calls answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the same call may succeed later, unchanged.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Full { .. }
                | Self::Unreachable { .. }
                | Self::Tls { .. }
                | Self::OutOfMemory(_)
                | Self::CannotWrite { .. }
                | Self::Unconfirmed { .. }
        )
    }

    /// What to do about it, in one sentence, where there is something to do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unreachable { .. } => {
                "is Redis running there? `pmq doctor` looks closer; without a URL pmq uses its local broker"
            }
            Self::Tls { problem, .. } => return problem.hint(),
            Self::Insecure { why, .. } => return why.hint(),
            Self::Login { .. } => {
                "give the password in PMQ_REDIS_PASSWORD, in a file named by PMQ_REDIS_PASSWORD_FILE, or in the URL"
            }
            Self::Denied { .. } => {
                "let an administrator run `pmq functions load`, and grant this user the functions and keys of its queues"
            }
            Self::OutOfMemory(_) => {
                "workers still drain it; raise maxmemory, or get completions and purge dead letters"
            }
            Self::CannotWrite { .. } => {
                "free some space on its disk; its log says more, and so does `redis-cli INFO persistence`"
            }
            Self::Unconfirmed { .. } => {
                "the same call can be made again, with the same task id; `pmq doctor` shows the replicas"
            }
            Self::Conflict { .. } => "choose another id, or submit exactly the same task again",
            Self::Shards { .. } => {
                "use the queue as it is, or another name; to begin anew, drain it, stop its workers and producers and delete its keys"
            }
            Self::Deleted { .. } => {
                "try again; where it stays so the deletion was cut short: delete the queue again"
            }
            Self::Full { .. } => "wait for workers or consumers, or raise the limit of the queue",
            Self::NewerLayout(_) => "use a pmq at least as new as the one that wrote the queue",
            Self::TooLarge { .. } => {
                "put large data into a file or an object store and submit its name"
            }
            Self::Unexpected { .. } => {
                "does something else write under this namespace? `pmq doctor` looks closer"
            }
            Self::LeaseLost { .. } => {
                "stop what it held, which may run elsewhere; a longer lease outlives a longer outage"
            }
            Self::NoThread(_) => {
                "raise the limit of processes, files or memory of this user or container, or start fewer threads"
            }
            Self::BadUrl(_) => "write it as redis://[user@]host[:port][/db], or rediss:// for TLS",
            Self::Untrusted { .. } => {
                "give all programs of the fleet the same authkey; where they have it, somebody else writes to this Redis"
            }
            Self::Encrypted { .. } => "name the authkey in PMQ_AUTHKEY_FILE",
            Self::Unreadable { .. } => {
                "something else wrote it, or with other types; both sides must agree on them"
            }
            _ => return self.hint_of_object(),
        })
    }

    /// Likewise of the words of multiprocessing.
    fn hint_of_object(&self) -> Option<&'static str> {
        Some(match self {
            Self::GrantLost { .. } => {
                "stop what it guarded; writes that carry its fence can be told from those of the next holder"
            }
            Self::NotHeld { .. } => "release what you acquired, once",
            Self::NotOwner { .. } => "release it in the task or thread that acquired it",
            Self::Closed { .. } => "open it again, or close it later",
            Self::NotClosed { .. } => "close it first",
            Self::TooManyDone { .. } => "call it once for each item that you got",
            Self::OutOfRange { .. } => "ask for its length first, or catch this error as in Python",
            Self::Missing { .. } => {
                "ask with `contains` or `get` first, or catch this error as in Python"
            }
            Self::Overflow { .. } => "use a wider type, or `update`, which can wrap as you like",
            Self::Changed { .. } => "try again, or hold a lock while several processes change it",
            Self::Gone { .. } => {
                "keep a handle of it until the other process has used its own, or give it a name"
            }
            Self::EndLost { .. } => "make a new pipe",
            Self::TicketGone { .. } => {
                "share the end again, a ticket for each process that opens it"
            }
            Self::OtherSize { .. } => "use the size that it has, or another name",
            Self::NotAcquired { .. } => {
                "pass the permit of the condition's own lock, while it is held"
            }
            Self::BrokenBarrier { .. } | Self::BarrierAction { .. } => {
                "a party timed out, died, failed or aborted; reset the barrier to use it again"
            }
            _ => return None, // the others say it themselves
        })
    }
}
