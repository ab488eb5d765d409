//! The executor: runs one claimed task and says how it ended.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pmq_broker::task_queue::{Claim, How};
use pmq_broker::{Completion, Report, Task, Work, envelope};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::child::{CommandError, Ended, Exit, Guard};
use crate::commands::{Commands, Surroundings, is_workers_trouble};
use crate::finisher::Post;
use crate::handlers::{Context, Handler, Handlers, TaskError, caught};
use crate::held::{Line, StopSwitch, Why};
use crate::runner::{Answer, Request, RunnerError};
use crate::slots::Slot;
use crate::standing_back::StandingBack;

/// Runs claimed tasks, each in a task of the runtime.
#[derive(Clone)]
pub(crate) struct Executor(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) worker: Arc<str>,
    pub(crate) handlers: Handlers,
    pub(crate) commands: Commands,
    pub(crate) guard: Guard,
    /// Where handlers run: their program's own runtime.
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) finishers: Vec<(Arc<Line>, mpsc::Sender<Post>)>,
    /// Not in a burst, which ends soon anyway.
    pub(crate) standing_back: Option<StandingBack>,
}

/// A claimed task and the slot that it fills.
pub(crate) struct Assignment {
    pub(crate) claim: Claim,
    pub(crate) line: Arc<Line>,
    pub(crate) slot: Slot,
    /// When the claim was answered.
    pub(crate) since: Instant,
}

/// One run under way.
struct Run {
    claim: Claim,
    line: Arc<Line>,
    switch: StopSwitch,
    slot: usize,
    since: Instant,
}

/// How a run ended, before it is told to the broker.
pub(crate) enum End {
    Finished {
        how: How,
        exit: Option<i32>,
        report: Report,
        body: Bytes,
    },
    /// Hand it back: the worker stops, or has trouble of its own.
    Released,
    /// Another worker may be able to run it.
    Refused(String),
    /// The lease is lost, so nobody wants the result.
    Dropped,
}

impl End {
    fn ok(body: Bytes) -> Self {
        Self::Finished {
            how: How::Ok,
            exit: None,
            report: Report::default(),
            body,
        }
    }

    fn failed(how: How, error: impl Into<String>) -> Self {
        let report = Report {
            error: Some(error.into()),
            ..Report::default()
        };
        Self::Finished {
            how,
            exit: None,
            report,
            body: Bytes::new(),
        }
    }
}

impl From<TaskError> for End {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Retry(text) => Self::failed(How::Failed, text),
            TaskError::ForGood(text) => Self::failed(How::FailedForGood, text),
        }
    }
}

impl Executor {
    pub(crate) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    /// Runs a claim in a slot. The slot is free again when the run has ended; it need not be committed yet.
    pub(crate) fn start(&self, assignment: Assignment) {
        let Assignment {
            claim,
            line,
            slot,
            since,
        } = assignment;
        let switch = line.hold(&claim);
        let executor = self.0.clone();
        self.0.runtime.spawn(async move {
            let run = Run {
                claim,
                line,
                switch,
                slot: slot.number,
                since,
            };
            let end = executor.execute(&run).await;
            match (&end, &executor.standing_back) {
                (End::Refused(_), Some(standing_back)) => {
                    executor.post(run, end).await;
                    standing_back.wait().await;
                    drop(slot);
                }
                (_, standing_back) => {
                    if let Some(standing_back) = standing_back {
                        standing_back.end();
                    }
                    drop(slot);
                    executor.post(run, end).await;
                }
            }
        });
    }
}

impl Shared {
    async fn execute(&self, run: &Run) -> End {
        if run.claim.is_orphan() {
            return End::failed(How::Cancelled, "whoever owned it is gone");
        }
        let task = match envelope::decode(run.claim.id, &run.claim.envelope) {
            Ok(task) => task,
            Err(error) if envelope::is_newer(&run.claim.envelope) => {
                return End::Refused(format!("{error}; a newer worker may run it"));
            }
            Err(error) => return End::failed(How::Dead, error.to_string()),
        };
        if task
            .expires_ms
            .is_some_and(|expires| expires <= run.claim.claimed_ms)
        {
            return End::failed(How::Dead, "it expired before it ran");
        }
        let end = match &task.work {
            Work::Handler(name) => self.handle(name, &task, run).await,
            Work::Command(argv) if self.commands.allowed => self.command(argv.clone(), &task, run).await,
            Work::Command(_) => End::Refused(
                "no worker of this queue allows commands; start one with `pmq worker --allow-commands`, or name a task of its [tasks.NAME]".into(),
            ),
        };
        after_stop(run, end)
    }

    async fn handle(&self, name: &str, task: &Task, run: &Run) -> End {
        match self.handlers.get(name) {
            None => End::Refused(format!(
                "no worker of this queue knows a task named '{name}'"
            )),
            Some(Handler::Function(function)) => {
                let context = Context {
                    id: task.id,
                    attempt: run.claim.attempt(),
                    queue: run.line.queue.name().clone(),
                    worker: self.worker.clone(),
                    stop: run.switch.stop.clone(),
                };
                let limit = limit(task);
                let body = task.body.clone();
                let answer = caught(async move { function(context, body).await });
                tokio::select! {
                    biased;
                    answer = answer => match answer {
                        Ok(Ok(body)) => End::ok(body),
                        Ok(Err(error)) => error.into(),
                        Err(panic) => End::failed(How::Failed, format!("the handler panicked: {panic}")),
                    },
                    () = run.switch.stop.cancelled() => End::failed(How::Failed, "stopped"),
                    () = expire(limit) => End::failed(How::Failed, timed_out(task)),
                }
            }
            Some(Handler::Template(template)) => match template(&task.body) {
                Ok(argv) => {
                    let argv = argv
                        .into_iter()
                        .map(std::os::unix::ffi::OsStringExt::into_vec)
                        .collect();
                    self.command(argv, task, run).await
                }
                Err(problem) => End::failed(How::FailedForGood, problem),
            },
            Some(Handler::Runner(runner)) => self.ask(runner, task, run).await,
        }
    }

    async fn ask(&self, runner: &crate::runner::Runner, task: &Task, run: &Run) -> End {
        let request = Request {
            id: uuid::Uuid::from_bytes(*task.id.as_bytes()),
            name: task.label(),
            attempt: run.claim.attempt().into(),
            queue: run.line.queue.name().to_string(),
            content_type: if task.details.content_type.is_empty() {
                pmq_broker::task::JSON.into()
            } else {
                task.details.content_type.clone()
            },
            body: task.body.clone(),
        };
        match runner
            .call(&request, limit(task), run.switch.stop.clone())
            .await
        {
            Ok(Answer::Result(body)) => End::ok(body),
            Ok(Answer::Error {
                message,
                retry: true,
            }) => TaskError::Retry(message).into(),
            Ok(Answer::Error {
                message,
                retry: false,
            }) => TaskError::ForGood(message).into(),
            Err(error @ RunnerError::Body { .. }) => {
                End::failed(How::FailedForGood, error.to_string())
            }
            Err(RunnerError::TimedOut) => End::failed(How::Failed, timed_out(task)),
            Err(RunnerError::Start { source }) => {
                tracing::error!(target: "pmq", error = %source, "the runner of task '{}' does not start; handing it back", task.label());
                sleep(Duration::from_secs(1)).await;
                End::Released
            }
            Err(error) => End::failed(How::Failed, error.to_string()),
        }
    }

    async fn command(&self, argv: Vec<Vec<u8>>, task: &Task, run: &Run) -> End {
        let around = Surroundings {
            id: task.id,
            attempt: run.claim.attempt(),
            queue: run.line.queue.name(),
            slot: run.slot,
        };
        let mut command = self.commands.prepare(argv, &task.details, &around);
        if !task.body.is_empty() && matches!(task.work, Work::Command(_)) {
            command.stdin = Some(task.body.clone());
        }
        command.interrupt = run.switch.interrupt.clone();
        let ended = tokio::select! {
            ended = command.run(&self.guard, run.switch.stop.clone()) => ended,
            () = run.switch.kill.cancelled() => return killed(),
        };
        match ended {
            Ok(ended) => end_of_command(ended, task),
            Err(error) if is_workers_trouble(&error) => {
                tracing::error!(target: "pmq", error = %chain(&error), "can't run commands now; handing them back");
                sleep(Duration::from_secs(1)).await;
                End::Released
            }
            Err(error) => not_started(&error),
        }
    }

    /// Tells the finisher of the run's queue.
    async fn post(&self, run: Run, end: End) {
        let Some((_, finisher)) = self
            .finishers
            .iter()
            .find(|(line, _)| Arc::ptr_eq(line, &run.line))
        else {
            return;
        };
        let elapsed = run.since.elapsed().as_micros() as u64;
        let started_us = run.claim.claimed_ms * 1000;
        let completion = |how: How, exit, report, body| Completion {
            id: run.claim.id,
            outcome: how.outcome(),
            exit,
            digest: envelope::digest_of(&run.claim.envelope),
            token: run.claim.run.token(),
            attempt: run.claim.attempt(),
            started_us,
            finished_us: started_us + elapsed,
            worker: self.worker.to_string(),
            report,
            body,
        };
        let id = run.claim.id;
        let post = match end {
            End::Finished {
                how,
                exit,
                report,
                body,
            } => Post::Finish(pmq_broker::task_queue::Finish::new(
                run.claim.run.clone(),
                how,
                &completion(how, exit, report, body),
            )),
            End::Refused(why) => {
                let report = Report {
                    error: Some(why),
                    ..Report::default()
                };
                Post::Refuse(
                    id,
                    run.claim.run.clone(),
                    completion(How::Dead, None, report, Bytes::new()).encode(),
                )
            }
            End::Released => Post::Release(id, run.claim.run.clone()),
            End::Dropped => Post::Drop(id, run.claim.run.clone()),
        };
        // The finisher ends only after the last run has.
        let _ = finisher.send(post).await;
    }
}

/// What a stopped run means depends on why it was stopped.
fn after_stop(run: &Run, end: End) -> End {
    let done = matches!(&end, End::Finished { how: How::Ok, .. });
    match run.switch.why() {
        Some(Why::Lost) => End::Dropped,
        Some(Why::Cancelled) if !done => match end {
            End::Finished {
                exit,
                mut report,
                body,
                ..
            } => {
                report.error = Some("cancelled while it ran".into());
                End::Finished {
                    how: How::Cancelled,
                    exit,
                    report,
                    body,
                }
            }
            _ => End::failed(How::Cancelled, "cancelled while it ran"),
        },
        Some(Why::Shutdown) if !done => End::Released,
        _ => end,
    }
}

fn limit(task: &Task) -> Option<Duration> {
    (task.details.timeout_ms > 0).then(|| Duration::from_millis(task.details.timeout_ms))
}

async fn expire(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn timed_out(task: &Task) -> String {
    format!("timed out after {} ms", task.details.timeout_ms)
}

fn killed() -> End {
    let report = Report {
        error: Some("killed".into()),
        stdout: Some(0),
        stderr: Some(0),
        ..Report::default()
    };
    End::Finished {
        how: How::Failed,
        exit: Some(-9),
        report,
        body: Bytes::new(),
    }
}

/// What never started has the exit code that a shell would give it.
fn not_started(error: &CommandError) -> End {
    let report = Report {
        error: Some(chain(error)),
        stdout: Some(0),
        stderr: Some(0),
        ..Report::default()
    };
    End::Finished {
        how: How::Failed,
        exit: error.exit_code(),
        report,
        body: Bytes::new(),
    }
}

fn end_of_command(ended: Ended, task: &Task) -> End {
    let exit = match ended.exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => -signal,
    };
    let out = ended.stdout.into_bytes();
    let err = ended.stderr.into_bytes();
    let error = match ended.why {
        crate::child::Why::TimedOut => Some(timed_out(task)),
        _ => None,
    };
    let how = if exit == 0 && error.is_none() {
        How::Ok
    } else {
        How::Failed
    };
    let report = Report {
        error,
        stdout: Some(out.len()),
        stderr: Some(err.len()),
        ..Report::default()
    };
    let mut body = out;
    body.extend_from_slice(&err);
    End::Finished {
        how,
        exit: Some(exit),
        report,
        body: body.into(),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
