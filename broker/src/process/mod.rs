//! Processes: `multiprocessing.Process` on any host of the fleet. A process is one task that is started, joined and killed.
//!
//! ```no_run
//! # async fn example(broker: pmq_broker::Broker) -> Result<(), pmq_broker::ProcessError> {
//! use pmq_broker::Process;
//!
//! let mut process = Process::command(["sleep", "60"]).name("sleeper").daemon(true);
//! process.start(&broker).await?;
//! process.terminate().await?;
//! assert_eq!(process.exitcode().await?, Some(-15));
//! # Ok(()) }
//! ```
//!
//! In reading order: `builder` says what to run, `start` runs it, `control` joins and kills it, `children` keeps what this
//! process has started, `current` tells a process about itself and its parent, `log` reads what a process prints, which
//! `echo` shows here.

mod append;
mod builder;
mod children;
mod control;
mod current;
mod echo;
mod error;
mod lineage;
pub mod log;
mod sight;
mod start;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use append::{Appended, Batch};
pub(crate) use children::Children;
pub use children::{active_children, at_exit, leave};
pub use current::{
    CurrentProcess, ParentProcess, cpu_count, current_process, parent_process, scope,
};
pub use error::ProcessError;
pub use lineage::{Lineage, Parent};
pub use log::{Log, Piece, Stream};

use crate::completion::{Completion, Outcome};
use crate::ids::{Incarnation, Name, TaskId};
use crate::task::Task;
use crate::task_queue::{Started, TaskQueue};

/// What the methods of a process answer.
pub type Result<T, E = ProcessError> = std::result::Result<T, E>;

/// The exit code of a process whose worker or host was lost: what runs there, if anything, is nobody's any more.
pub const LOST: i32 = -9;
/// How long `start` waits for a worker, unless set.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A process on some host of the fleet. In Python this is `multiprocessing.Process`.
///
/// It runs at most once: where its worker or host is lost, it ends with the exit code [`LOST`]. A handle that is dropped
/// leaves its process running.
#[derive(Debug)]
pub struct Process {
    task: Task,
    name: String,
    bond: Bond,
    attended: bool,
    echo: bool,
    queue: Name,
    start_timeout: Duration,
    phase: Phase,
}

/// Whether a process ends with its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bond {
    /// It does not.
    Free,
    /// It does.
    Tied,
    /// It does, and has no children.
    Daemon,
}

/// How far a handle is.
#[derive(Debug)]
enum Phase {
    Initial,
    Started(Handle),
    Closed,
}

/// A process that was started.
#[derive(Clone)]
struct Handle {
    queue: TaskQueue,
    id: TaskId,
    facts: Arc<Facts>,
    /// Who it waits for to read its output, if for anybody.
    reader: Option<Incarnation>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("queue", self.queue.name())
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// What is known for good, once it is known.
#[derive(Debug, Default)]
struct Facts {
    started: OnceLock<Started>,
    ended: OnceLock<Box<Completion>>,
    /// Cancelled when all that it printed was copied to the streams of its parent, where that is done.
    echoed: OnceLock<CancellationToken>,
}

/// The exit code of a process as Python tells it: 0, a positive code, or minus the signal that ended it.
///
/// A handler that failed or panicked has 1; one that was terminated -15, and one that was killed -9. What was cancelled
/// before it ran has -15.
#[must_use]
pub fn exitcode_of(completion: &Completion) -> i32 {
    completion.exit.unwrap_or(match completion.outcome {
        Outcome::Ok => 0,
        Outcome::Failed => 1,
        Outcome::Cancelled => -15,
        Outcome::Dead => LOST,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::completion::Report;

    #[test]
    fn exit_codes_are_pythons() {
        let code = |outcome, exit| {
            exitcode_of(&Completion {
                id: TaskId::new(),
                outcome,
                exit,
                digest: [0; 8],
                token: 1,
                attempt: 1,
                started_us: 0,
                finished_us: 0,
                worker: String::new(),
                report: Report::default(),
                body: Bytes::new(),
            })
        };
        assert_eq!(code(Outcome::Ok, None), 0);
        assert_eq!(code(Outcome::Failed, None), 1);
        assert_eq!(code(Outcome::Failed, Some(7)), 7);
        assert_eq!(code(Outcome::Cancelled, None), -15);
        assert_eq!(code(Outcome::Cancelled, Some(0)), 0);
        assert_eq!(code(Outcome::Dead, Some(-9)), LOST);
    }
}
