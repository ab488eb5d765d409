//! Runners: long-lived children, in any language, that take a task a line and give an answer a line.
//!
//! A handler in a runner costs microseconds, where a command costs the start of a process. The
//! protocol is in `docs/runners.md`; `pmq/examples/runner/square.py` is a whole runner.

mod calls;
mod error;
#[cfg(test)]
mod fuzz;
mod lines;
mod log;
mod protocol;
mod session;
mod supervisor;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

pub use self::error::RunnerError;
pub use self::protocol::{Answer, Request};

use self::calls::{Call, Ticket};
use self::supervisor::Supervisor;
use crate::child::{Guard, Program, Stop};

/// How a runner is started and fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The runner's program. A restart starts it again, in a new private directory if it names none.
    pub program: Program,
    /// How many unanswered tasks the child holds at once; it works through them in order. 1 unless set, and at least 1.
    pub depth: usize,
    /// How long the child has after the end of its input before it is killed. 5 s unless set.
    pub grace: Duration,
}

impl Config {
    /// One task at a time, with a grace of 5 s.
    #[must_use]
    pub fn new(program: Program) -> Self {
        Self {
            program,
            depth: 1,
            grace: Duration::from_secs(5),
        }
    }
}

/// A handle of one runner; clones share its child. When the last one is dropped, the child's input ends.
#[derive(Debug, Clone)]
pub struct Runner {
    inbox: mpsc::UnboundedSender<calls::Message>,
    tasks: watch::Receiver<Option<Arc<[String]>>>,
}

impl Runner {
    /// Starts the child, and starts it again whenever it ends. Needs a tokio runtime.
    ///
    /// A child that cannot start is no error here: it fails the calls, and is tried again with a
    /// growing delay.
    #[must_use]
    pub fn start(config: Config, guard: Guard) -> Self {
        let (inbox, messages) = mpsc::unbounded_channel();
        let (greeting, tasks) = watch::channel(None);
        tokio::spawn(Supervisor::new(config, guard, greeting).run(messages));
        Self { inbox, tasks }
    }

    /// The names of the tasks that the child said it can run; `None` if it has not said so yet, or never does.
    #[must_use]
    pub fn tasks(&self) -> Option<Arc<[String]>> {
        self.tasks.borrow().clone()
    }

    /// Has the child run one task, and waits for its answer.
    ///
    /// `timeout` counts from when the task is the oldest that the child holds. A task that times out,
    /// or is stopped while it runs, takes the child with it; the child's other tasks run again in
    /// the next child. Dropping the future does the same as `stop`.
    pub async fn call(
        &self,
        request: &Request,
        timeout: Option<Duration>,
        stop: Stop,
    ) -> Result<Answer, RunnerError> {
        let line: Bytes = request.to_line()?.into();
        let (call, reply) = Call::new(request.id, line, timeout);
        let ticket = Ticket::new(call, reply, &self.inbox);
        tokio::select! {
            biased;
            answer = ticket.answered() => answer,
            () = stop.cancelled() => Err(RunnerError::Stopped),
        }
    }
}
