//! Processes: their worker tells where they run, and gives them an exit code as an operating system would.

use std::convert::Infallible;
use std::sync::Arc;

use pmq_broker::task_queue::{Claim, How, Started};
use pmq_broker::{Error, Report};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::end::End;
use crate::handlers::caught;
use crate::held::{Line, StopSwitch, Why};

/// Where the pid of a process goes once it runs.
pub(crate) type Pid = mpsc::Sender<u32>;

/// What runs inside the worker has the worker's pid.
pub(crate) fn say_here(pid: Option<&Pid>) {
    if let Some(pid) = pid {
        // Who does not listen any more does not want to know.
        let _ = pid.try_send(std::process::id());
    }
}

/// Where the processes of this worker run.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) name: Arc<str>,
    pub(crate) worker: Arc<str>,
}

/// A process under way.
pub(crate) struct Process<'a> {
    pub(crate) claim: &'a Claim,
    pub(crate) line: &'a Line,
    pub(crate) switch: &'a StopSwitch,
    /// When the claim was answered.
    pub(crate) since: Instant,
}

impl Process<'_> {
    /// Runs it to its end, and tells where it runs as soon as `pid` says.
    pub(crate) async fn run(
        self,
        host: &Host,
        mut pid: mpsc::Receiver<u32>,
        work: impl Future<Output = End>,
    ) -> End {
        let mut started = None;
        let announced = async {
            // What does not start has no pid.
            if let Some(pid) = pid.recv().await {
                started = Some(pid);
                self.announce(host, pid).await;
            }
            std::future::pending::<Infallible>().await
        };
        let end = tokio::select! {
            biased;
            end = caught(work) => end.unwrap_or_else(|panic| End::panicked(&panic)),
            never = announced => match never {},
        };
        let started = started.or_else(|| pid.try_recv().ok());
        self.ended(end, started, host)
    }

    async fn announce(&self, host: &Host, pid: u32) {
        let started = Started {
            pid,
            host: host.name.to_string(),
            worker: host.worker.to_string(),
            started_ms: self.claim.claimed_ms + self.since.elapsed().as_millis() as u64,
        };
        let shard = &self.line.shard;
        while let Err(error) = shard.start(self.claim.id, &self.claim.run, &started).await {
            if matches!(error, Error::LeaseLost { .. }) || !error.is_transient() {
                tracing::debug!(target: "pmq", %error, "could not tell where a process runs");
                return;
            }
        }
    }

    /// Its end, with the exit code that a process has. It is not run again: stopped with its worker, it has ended.
    fn ended(&self, end: End, pid: Option<u32>, host: &Host) -> End {
        let why = self.switch.why();
        let is_stopped = why == Some(Why::Shutdown) && pid.is_some();
        let mut end = if is_stopped {
            end.failed_with("its worker was stopped")
        } else {
            end.after_stop(why)
        };
        if let End::Finished {
            how, exit, report, ..
        } = &mut end
        {
            *exit = exit.or_else(|| Some(self.exitcode(*how)));
            *report = Report {
                pid,
                host: pid.map(|_| host.name.to_string()),
                ..std::mem::take(report)
            };
        }
        end
    }

    fn exitcode(&self, how: How) -> i32 {
        match (how, self.switch.why()) {
            (How::Ok, _) => 0,
            (_, Some(_)) => -(self.switch.signal() as i32),
            _ => 1,
        }
    }
}
