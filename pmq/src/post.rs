//! A post: the place of one worker process of this program, filled by one process after the other.

use std::env;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use pmq_broker::pool::LEASE;
use pmq_broker::{Incarnation, TaskQueue};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use crate::pool_worker::{POOL_WORKER, PoolWorker};

/// How long a worker has to end; then it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// A worker that fails sooner than this did not get to work.
const EARLY: Duration = Duration::from_secs(2);
/// So many early failures in a row are no accident.
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
            self.bury(incarnation, &ended).await;
            let is_failure = ended
                .as_ref()
                .is_ok_and(|status| status.code().is_some_and(|code| code != 0));
            failures = if is_failure && began.elapsed() < EARLY {
                failures + 1
            } else {
                0
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

    /// A worker that was killed can't hand back what it held.
    async fn bury(&self, worker: Incarnation, ended: &io::Result<ExitStatus>) {
        if ended.as_ref().is_ok_and(ExitStatus::success) {
            return;
        }
        tracing::info!(target: "pmq", worker = %self.name, "a worker of this program died ({})", text(ended));
        if let Err(error) = self.queue.bury(worker, LEASE).await {
            // It held nothing, or its lease ends by itself.
            tracing::debug!(target: "pmq", %error, "could not end the lease of a dead worker");
        }
    }
}

fn text(ended: &io::Result<ExitStatus>) -> String {
    match ended {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}
