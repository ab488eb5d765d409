//! The crew: the worker processes of a local pool, kept running as long as the pool needs them.

use std::env;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use pmq_broker::Incarnation;
use pmq_broker::pool::CrewLink;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::pool_worker::{POOL_WORKER, PoolWorker};

/// How long a worker has to end; then it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// A worker that fails sooner than this did not get to work.
const EARLY: Duration = Duration::from_secs(2);
/// So many early failures in a row are no accident.
const EARLY_FAILURES: u32 = 3;

/// Which workers to run.
pub(crate) struct Crew {
    pub(crate) processes: usize,
    pub(crate) max_tasks: Option<u32>,
    pub(crate) link: CrewLink,
}

impl Crew {
    /// Keeps the workers running until the pool has ended, and removes what is left of it.
    pub(crate) async fn run(self) {
        let mut workers = JoinSet::new();
        for number in 1..=self.processes {
            let worker = Post {
                name: format!("PoolWorker-{number}"),
                max_tasks: self.max_tasks,
                link: self.link.clone(),
            };
            workers.spawn(worker.keep_running());
        }
        workers.join_all().await;
        self.link.drained().await;
        self.link.end().await;
    }
}

/// One place in the crew, filled by one process after the other.
struct Post {
    name: String,
    max_tasks: Option<u32>,
    link: CrewLink,
}

impl Post {
    async fn keep_running(self) {
        let mut failures = 0;
        let (child, incarnation) = loop {
            let (began, incarnation) = (Instant::now(), Incarnation::new());
            let mut child = match self.start(incarnation) {
                Ok(child) => child,
                Err(error) => return self.link.fail(format!("could not start one: {error}")),
            };
            // Waiting for the process would close the pipe, which ends it.
            let pipe = child.stdin.take();
            let ended = tokio::select! {
                ended = child.wait() => ended,
                () = self.link.stopping() => break (child, incarnation),
                () = self.link.drained() => break (child, incarnation),
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
                return self
                    .link
                    .fail(format!("they end as soon as they start ({})", text(&ended)));
            }
        };
        self.end(child, incarnation).await;
    }

    fn start(&self, incarnation: Incarnation) -> io::Result<Child> {
        let role = PoolWorker {
            name: self.name.clone(),
            queue: self.link.queue().name().clone(),
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

    /// A worker that was killed can't hand back its chunk.
    async fn bury(&self, worker: Incarnation, ended: &io::Result<ExitStatus>) {
        if ended.as_ref().is_ok_and(ExitStatus::success) {
            return;
        }
        tracing::info!(target: "pmq", worker = %self.name, "a worker of a pool died ({})", text(ended));
        if let Err(error) = self.link.bury_worker(worker).await {
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
