//! A task: what to run, and how. Plain data.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use crate::fresh::Fresh;
use crate::ids::{Incarnation, Name, TaskId};
use crate::process::Lineage;
use crate::slot::crc16;

/// Priority of a task that names none; 0 to 9, higher first.
pub const DEFAULT_PRIORITY: u8 = 5;
/// How often a handler's task may fail before it is a dead letter.
pub const DEFAULT_ATTEMPTS: u16 = 4;
/// How many workers may die under a task before it is a dead letter.
pub const DEFAULT_CRASHES: u8 = 3;
/// The shortest wait before a retry.
pub const DEFAULT_BACKOFF_FLOOR: Duration = Duration::from_secs(1);
/// The longest wait before a retry.
pub const DEFAULT_BACKOFF_CAP: Duration = Duration::from_secs(600);
/// The largest body of a task.
pub const BODY_LIMIT: usize = 16 << 20;
/// The largest header of a task: its name or argv, labels and the like.
pub const HEADER_LIMIT: usize = 64 << 10;
/// The content type of a body where none is named.
pub const JSON: &str = "application/json";

/// What a task runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// The handler or runner of this name.
    Handler(String),
    /// A command: argv of any bytes but NUL.
    Command(Vec<Vec<u8>>),
}

/// When a task becomes ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Due {
    /// At once.
    #[default]
    Now,
    /// This long after it was submitted, by the broker's clock.
    After(Duration),
    /// At this time, in ms since the epoch.
    At(u64),
}

/// How often and when a task is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Failures that make it a dead letter; at least 1.
    pub attempts: u16,
    /// Deaths of its worker that make it a dead letter; at least 1. Apart from `attempts`.
    pub crashes: u8,
    /// The shortest wait before a retry, in whole ms.
    pub floor: Duration,
    /// The longest wait before a retry, in whole ms.
    pub cap: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: DEFAULT_ATTEMPTS,
            crashes: DEFAULT_CRASHES,
            floor: DEFAULT_BACKOFF_FLOOR,
            cap: DEFAULT_BACKOFF_CAP,
        }
    }
}

/// What only the worker reads: the part of the header that differs from the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// How long a run may take, in ms; 0 for no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout_ms: u64,
    /// The body's type, where it is not JSON.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_type: String,
    /// When it was submitted, in ms since the epoch, where the id does not tell; 0 for unknown.
    #[serde(skip_serializing_if = "is_zero")]
    pub queued_ms: u64,
    /// The command's working directory; a private one where empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cwd: String,
    /// The command's additional environment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(String, String)>,
    /// What a process is told about itself and its parent; nothing where the task is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Lineage>,
    /// Free-form labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(String, String)>,
    /// What says that the body is an array of arguments, one a call of the handler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk: Option<Chunk>,
}

/// A chunk of a [`Pool`](crate::Pool): its handler is called once for each item of the body, a JSON array, in turn.
///
/// Its result is an array of `{"ok": result}` or `{"error": text}`, an item each; or `{"initializer": text}` where the
/// initializer failed, and nothing was called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Chunk {
    /// What each worker process does before its first chunk of the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initializer: Option<Initializer>,
    /// Where several chunks travel together: how many items each has; 0 for one chunk alone. A worker that has been at
    /// them for 10 ms ends after the chunk that it is in, with fewer results than items, and others run the rest.
    #[serde(skip_serializing_if = "is_zero_u32")]
    pub size: u32,
}

/// What prepares a worker process for the chunks of a pool. In Python these are `initializer` and `initargs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initializer {
    /// The pool, so that a worker knows which chunks belong together.
    pub pool: String,
    /// The handler.
    pub name: String,
    /// Its argument.
    pub args: serde_json::Value,
    /// After how many chunks of the pool it runs again; 0 for never.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub every: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero_u32(n: &u32) -> bool {
    *n == 0
}

/// What tasks have in common that stay in order: the CRC-16 of any text, which is the end of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub(crate) u16);

impl Key {
    /// The number, which is the [deal](TaskId::with_deal) of the ids.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}

/// A task as it is submitted. In Python's multiprocessing it is what `Pool.apply_async` sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its id; new unless given.
    pub id: TaskId,
    /// Whether the caller chose the id, so that an older task may have it.
    pub given_id: bool,
    /// Whether it is certainly new to the broker.
    pub fresh: Fresh,
    /// What decides its shard, where that is not left to pmq; see [`Task::with_key`].
    pub key: Option<Key>,
    /// What it runs.
    pub work: Work,
    /// Its arguments: JSON, or bytes of `details.content_type`. At most 16 MiB.
    pub body: Bytes,
    /// 0 to 9, higher first; 5 unless set.
    pub priority: u8,
    /// When it becomes ready; at once unless set.
    pub due: Due,
    /// How often it is tried.
    pub retry: Retry,
    /// When it is not worth running any more, in ms since the epoch.
    pub expires_ms: Option<u64>,
    /// Who owns it: when that client's lease ends, the task is dropped.
    pub owner: Option<Incarnation>,
    /// Its completion queue; else the worker's, else the queue's, else none.
    pub completions: Option<Name>,
    /// Whether its completion is kept by id for the queue's retention time; true unless set.
    pub keep: bool,
    /// Whether it is a process: where it runs is told, and what it prints is streamed. False unless set.
    pub process: bool,
    /// What only the worker reads.
    pub details: Details,
}

impl Task {
    /// A task for the handler `name`, with JSON arguments.
    #[must_use]
    pub fn handler(name: impl Into<String>, args: impl Into<Bytes>) -> Self {
        Self::new(Work::Handler(name.into()), args.into(), Retry::default())
    }

    /// A task that runs a command. Commands are tried once unless told otherwise: they may have effects.
    #[must_use]
    pub fn command<A: Into<Vec<u8>>>(argv: impl IntoIterator<Item = A>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        Self::new(
            Work::Command(argv),
            Bytes::new(),
            Retry {
                attempts: 1,
                ..Retry::default()
            },
        )
    }

    /// A task of this work without a body, to tell about one.
    pub(crate) fn of(work: Work) -> Self {
        Self::new(work, Bytes::new(), Retry::default())
    }

    fn new(work: Work, body: Bytes, retry: Retry) -> Self {
        let id = TaskId::new();
        Self {
            id,
            given_id: false,
            fresh: Fresh::new(&id),
            key: None,
            work,
            body,
            priority: DEFAULT_PRIORITY,
            due: Due::Now,
            retry,
            expires_ms: None,
            owner: None,
            completions: None,
            keep: true,
            process: false,
            details: Details::default(),
        }
    }

    /// Sets an id of the caller's choice. The same task submitted again under it runs once.
    #[must_use]
    pub fn with_id(mut self, id: TaskId) -> Self {
        self.id = id;
        self.given_id = true;
        self.fresh = Fresh::known();
        self
    }

    /// Puts all tasks of this key on one shard of the queue, where those of one priority begin in the order in which they
    /// were submitted. An id of the caller's choice must end in the key's number, or submitting is an error.
    #[must_use]
    pub fn with_key(mut self, key: &str) -> Self {
        let key = Key(crc16(key.as_bytes()));
        if !self.given_id {
            self.id = self.id.with_deal(key.0);
        }
        self.key = Some(key);
        self
    }

    /// Sets the completion queue.
    #[must_use]
    pub fn with_completions(mut self, name: Name) -> Self {
        self.completions = Some(name);
        self
    }

    /// The name of the handler, or of the command's program, for people.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.work {
            Work::Handler(name) => name.clone(),
            Work::Command(argv) => argv
                .first()
                .map(|a| String::from_utf8_lossy(a).into_owned())
                .unwrap_or_default(),
        }
    }
}
