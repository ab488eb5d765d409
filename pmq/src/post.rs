//! A post: the place of one worker process of this program, filled by one process after the other.

use std::env;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use pmq_broker::pool::LEASE;
use pmq_broker::{Error, Incarnation, TaskQueue};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::pool_worker::{POOL_WORKER, PoolWorker};

/// How long a worker has to end; then it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// A worker that ends sooner than this, and held no task, does not start.
const EARLY: Duration = Duration::from_secs(2);
/// So many of these in a row are no accident.
const EARLY_FAILURES: u32 = 3;

pub(crate) struct Post {
    /// The name of its workers.
    pub(crate) name: String,
    /// What they serve.
    pub(crate) queue: TaskQueue,
    /// After how many tasks one is replaced.
    pub(crate) max_tasks: Option<u32>,
}

impl Post {
    /// Keeps a worker running until `enough`. Answers why, where that can't be done.
    pub(crate) async fn keep_running(self, enough: impl Future<Output = ()>) -> Result<(), String> {
        let mut enough = std::pin::pin!(enough);
        let mut failures = 0;
        let (child, incarnation) = loop {
            let (began, incarnation) = (Instant::now(), Incarnation::new());
            let mut child = self
                .start(incarnation)
                .map_err(|error| format!("could not start one: {error}"))?;
            // Waiting for the process would close the pipe, which ends it.
            let pipe = child.stdin.take();
            let ended = tokio::select! {
                ended = child.wait() => ended,
                () = &mut enough => break (child, incarnation),
            };
            drop(pipe);
            let has_worked = self.bury(incarnation, &ended).await;
            failures = if has_worked || began.elapsed() >= EARLY {
                0
            } else {
                failures + 1
            };
            if failures == EARLY_FAILURES {
                return Err(format!("they end as soon as they start ({})", text(&ended)));
            }
        };
        self.end(child, incarnation).await;
        Ok(())
    }

    fn start(&self, incarnation: Incarnation) -> io::Result<Child> {
        let role = PoolWorker {
            name: self.name.clone(),
            queue: self.queue.name().clone(),
            incarnation,
            max_tasks: self.max_tasks,
            parent: std::process::id(),
        };
        Command::new(env::current_exe()?)
            .args(env::args_os().skip(1))
            .env(POOL_WORKER, serde_json::to_string(&role)?)
            // It ends with this pipe, and not by a Ctrl-C, which is for the parent.
            .stdin(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// Has a worker end, and kills it if it does not.
    async fn end(&self, mut child: Child, incarnation: Incarnation) {
        if timeout(GRACE, child.wait()).await.is_err() {
            // It fails only where the process has ended.
            let _ = child.kill().await;
            self.bury(incarnation, &child.wait().await).await;
        }
    }

    /// A worker that was killed can't hand back what it held. Answers whether it got to work: where a task ends the
    /// process, that is the task's fault.
    async fn bury(&self, worker: Incarnation, ended: &io::Result<ExitStatus>) -> bool {
        if ended.as_ref().is_ok_and(ExitStatus::success) {
            return self.max_tasks.is_some();
        }
        tracing::info!(target: "pmq", worker = %self.name, "a worker of this program died ({})", text(ended));
        match self.queue.bury(worker, LEASE).await {
            Ok(()) => true,
            Err(Error::LeaseLost { .. }) => false,
            Err(error) => {
                // Nobody can tell; its lease ends by itself.
                tracing::debug!(target: "pmq", %error, "could not end the lease of a dead worker");
                true
            }
        }
    }
}

fn text(ended: &io::Result<ExitStatus>) -> String {
    match ended {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}
