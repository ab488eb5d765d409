//! This program as a worker: of a pool of its own parent process, or of the fleet.

use std::env;
use std::io::Read;
use std::thread;
use std::time::Duration;

use pmq_broker::pool::LEASE;
use pmq_broker::{Incarnation, Name};
use pmq_worker::Worker;
use rustix::process::{Pid, Signal, getpid, getppid, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::ProgramError;

/// What makes a process the worker of a pool: a [`PoolWorker`] as JSON.
pub(crate) const POOL_WORKER: &str = "PMQ_POOL_WORKER";
/// What makes it a worker of the fleet: a queue, or several with commas between.
const SERVE: &str = "PMQ_SERVE";
/// A handler that does not end when it is dropped is killed with its process.
const KILL_AFTER: Duration = Duration::from_secs(4);
/// A chunk may take as long as it likes, also the last one of a process that is replaced.
const GRACE: Duration = Duration::from_secs(365 * 86_400);

/// What a worker of a pool is told.
#[derive(Serialize, Deserialize)]
pub(crate) struct PoolWorker {
    pub(crate) name: String,
    pub(crate) queue: Name,
    pub(crate) incarnation: Incarnation,
    pub(crate) max_tasks: Option<u32>,
    /// The process that starts it.
    pub(crate) parent: u32,
}

/// What this process is, beside the parent.
pub(crate) enum Role {
    /// A worker of a pool, which ends with its parent process.
    Pool(PoolWorker),
    /// A worker of the fleet.
    Fleet(Vec<Name>),
}

/// What this process is; `None` for the parent.
pub(crate) fn role() -> Result<Option<Role>, ProgramError> {
    if let Ok(text) = env::var(POOL_WORKER) {
        let worker = serde_json::from_str(&text);
        let worker: PoolWorker =
            worker.map_err(|error| ProgramError::NoPoolWorker(error.to_string()))?;
        if worker.is_meant() {
            return Ok(Some(Role::Pool(worker)));
        }
    }
    let Ok(queues) = env::var(SERVE) else {
        return Ok(None);
    };
    let queues = queues.split(',').map(Name::new).collect::<Result<_, _>>()?;
    Ok(Some(Role::Fleet(queues)))
}

impl Role {
    /// Works until it is told to end.
    pub(crate) async fn work(self, worker: Worker) -> Result<(), ProgramError> {
        match self {
            Self::Pool(role) => role.work(worker).await,
            Self::Fleet(queues) => serve(queues, worker).await,
        }
    }
}

impl PoolWorker {
    /// Whether this process is that worker. What a worker runs inherits the variable, and is none: it would take tasks
    /// under the worker's own incarnation.
    fn is_meant(&self) -> bool {
        let parent = i32::try_from(self.parent).ok().and_then(Pid::from_raw);
        // Orphaned already, it ends at once, as its input has ended.
        let is_dead = parent.is_none_or(|parent| test_kill_process(parent).is_err());
        is_dead || getppid() == parent
    }

    async fn work(self, mut worker: Worker) -> Result<(), ProgramError> {
        let queue = worker.broker().task_queue(&self.queue);
        worker.options.name = self.name;
        worker.options.queues = vec![self.queue];
        worker.options.slots = 1;
        worker.options.lease = LEASE;
        // Only this user can open the local broker's socket.
        worker.options.commands.allowed = worker.broker().is_local();
        worker.options.grace = GRACE;
        worker.options.incarnation = Some(self.incarnation);
        worker.options.max_tasks = self.max_tasks.map(|n| n as usize);
        let orphaned = end_of_input();
        let ends = [orphaned.clone(), orphaned.clone()].map(CancellationToken::cancelled_owned);
        let [stop, hurry] = ends;
        worker.run_until(stop, hurry).await?;
        if orphaned.is_cancelled() {
            // The parent may be dead, so that nobody else removes what is left of the pool.
            queue.delete().await?;
        }
        Ok(())
    }
}

/// Cancelled when the parent process closes the pipe, or dies; then this process has to end soon.
fn end_of_input() -> CancellationToken {
    let ended = CancellationToken::new();
    let token = ended.clone();
    thread::spawn(move || {
        let mut input = std::io::stdin();
        let mut byte = [0];
        while input.read(&mut byte).is_ok_and(|n| n > 0) {}
        token.cancel();
        thread::sleep(KILL_AFTER);
        // There is no process that this could fail for.
        let _ = kill_process(getpid(), Signal::KILL);
    });
    ended
}

/// Serves queues of the fleet until SIGTERM or SIGINT; the second one cuts the grace short.
async fn serve(queues: Vec<Name>, mut worker: Worker) -> Result<(), ProgramError> {
    worker.options.queues = queues;
    let listen = |kind| signal(kind).map_err(ProgramError::Signals);
    let (mut term, mut int) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
    let (first, second) = (stop.clone(), hurry.clone());
    tokio::spawn(async move {
        for token in [first, second] {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            token.cancel();
        }
    });
    worker
        .run_until(stop.cancelled_owned(), hurry.cancelled_owned())
        .await?;
    Ok(())
}
