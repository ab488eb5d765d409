//! The executor: runs one claimed task and says how it ended.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use pmq_broker::task_queue::{Claim, How};
use pmq_broker::{Broker, Completion, Error, Report, Task, Work, envelope, lending};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, sleep};

use crate::brisk::Starter;
use crate::child::Guard;
use crate::chunk::Pools;
use crate::commands::{Commands, Surroundings, is_workers_trouble};
use crate::end::{End, chain};
use crate::finisher::Post;
use crate::handlers::{Context, Function, Handler, Handlers, TaskError, call, caught};
use crate::held::{Line, StopSwitch};
use crate::lending::{Desk, Lender, Ticket};
use crate::process::{Host, Pid, Process, say_here};
use crate::process_log::{Chunk, Close, ProcessLog};
use crate::runner::{Answer, Request, RunnerError};
use crate::slots::Slot;
use crate::standing_back::StandingBack;

/// How long runs that are ready at once keep a thread of the runtime from everything else.
const TURN: Duration = Duration::from_micros(200);

/// Runs claimed tasks.
#[derive(Clone)]
pub(crate) struct Executor(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) host: Host,
    pub(crate) handlers: Handlers,
    pub(crate) commands: Commands,
    pub(crate) guard: Guard,
    /// What handlers reach the broker by.
    pub(crate) broker: Broker,
    /// Where commands may lend their slots.
    pub(crate) desk: Option<Desk>,
    /// Where handlers run: their program's own runtime.
    pub(crate) runtime: tokio::runtime::Handle,
    /// For runs that come one by one.
    pub(crate) starter: Starter,
    /// Where the worker's own roles run.
    pub(crate) roles: tokio::runtime::Handle,
    /// One a line, in the order of the lines.
    pub(crate) finishers: Vec<mpsc::Sender<Post>>,
    /// Not in a burst, which ends soon anyway.
    pub(crate) standing_back: Option<StandingBack>,
    pub(crate) pools: Pools,
}

/// A claimed task and the slot that it fills.
pub(crate) struct Assignment {
    pub(crate) claim: Claim,
    pub(crate) switch: StopSwitch,
    pub(crate) line: Arc<Line>,
    pub(crate) slot: Slot,
    /// When the claim was answered.
    pub(crate) since: Instant,
}

/// One run under way.
pub(crate) struct Run {
    claim: Claim,
    line: Arc<Line>,
    pub(crate) switch: StopSwitch,
    slot: usize,
    lender: Arc<Lender>,
    since: Instant,
    /// Where it prints to, where it is a process.
    log: Option<mpsc::Sender<Chunk>>,
    /// Where its pid goes once it runs, where it is a process.
    pid: Option<Pid>,
}

impl Executor {
    pub(crate) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    /// Runs claims in their slots, each of which is free again when the finisher has the end.
    ///
    /// As many tasks of the runtime as it has threads share them, so that a run that is ready at once costs no task of
    /// its own, and one that blocks its thread holds up no other while another thread is free. One alone may be run here.
    pub(crate) async fn start(&self, mut assignments: Vec<Assignment>) {
        if assignments.len() == 1
            && let Some(assignment) = assignments.pop()
        {
            if self.0.starter.is_here() {
                // What else this thread has to do goes first, or another thread can take it over.
                tokio::task::yield_now().await;
            }
            self.0
                .starter
                .start(Box::pin(self.0.clone().run(assignment)));
            return;
        }
        let runtime = &self.0.runtime;
        let hands = runtime.metrics().num_workers().min(assignments.len());
        let waiting = Arc::new(Mutex::new(assignments.into_iter()));
        for _ in 0..hands {
            runtime.spawn(hand(self.0.clone(), waiting.clone()));
        }
    }
}

type Waiting = Arc<Mutex<std::vec::IntoIter<Assignment>>>;
type Hand = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs what waits, one after the other; what is not ready at once goes on as a task of its own. Before its first run it
/// calls another hand: for a run that blocks in place the runtime takes on a thread beyond those it has.
fn hand(shared: Arc<Shared>, waiting: Waiting) -> Hand {
    Box::pin(async move {
        let (mut since, mut alone) = (Instant::now(), true);
        loop {
            let (next, more) = {
                let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                (waiting.next(), waiting.len() > 0)
            };
            let Some(assignment) = next else {
                return;
            };
            if more && alone {
                tokio::spawn(hand(shared.clone(), waiting.clone()));
                alone = false;
            }
            let mut run = Box::pin(shared.clone().run(assignment));
            let ready = poll_fn(|context| Poll::Ready(run.as_mut().poll(context).is_ready())).await;
            if !ready {
                tokio::spawn(run);
            }
            // What else the runtime has to do must not wait long.
            if since.elapsed() > TURN {
                tokio::task::yield_now().await;
                since = Instant::now();
            }
        }
    })
}

impl Shared {
    /// Runs one claim to its end.
    async fn run(self: Arc<Self>, assignment: Assignment) {
        let Assignment {
            claim,
            switch,
            line,
            slot,
            since,
        } = assignment;
        let (slot, lender) = (slot.number, Lender::new(slot));
        let mut run = Run {
            claim,
            line,
            switch,
            slot,
            lender: lender.clone(),
            since,
            log: None,
            pid: None,
        };
        let end = match caught(self.execute(&mut run)).await {
            Ok(end) => end,
            Err(panic) => End::panicked(&panic),
        };
        let useless = matches!(end, End::Refused(_) | End::Released);
        // Only then the slot is free: what can't be committed holds up what would come after it.
        self.post(run, end).await;
        match &self.standing_back {
            Some(standing_back) if useless => standing_back.wait().await,
            Some(standing_back) => standing_back.end(),
            None => {}
        }
        lender.end();
    }

    async fn execute(&self, run: &mut Run) -> End {
        if run.claim.is_orphan() {
            return End::failed(How::Cancelled, "whoever owned it is gone");
        }
        let (claim, sealing) = (&run.claim, run.line.shard.sealing());
        let task = match sealing.open_task(claim.id, &claim.envelope, claim.claimed_ms) {
            Ok(task) => task,
            Err(error) => return unopened(&error, &claim.envelope),
        };
        if task
            .expires_ms
            .is_some_and(|expires| expires <= run.claim.claimed_ms)
        {
            return End::failed(How::Dead, "it expired before it ran");
        }
        let end = match &task.details.chunk {
            Some(chunk) => {
                let end = Box::pin(self.chunk(chunk, &task, run)).await;
                end.after_stop(run.switch.why())
            }
            None if task.process => Box::pin(self.execute_process(&task, run)).await,
            None => self.work(&task, run).await.after_stop(run.switch.why()),
        };
        end.checked(&task)
    }

    /// Runs a process, which is told of as soon as it runs.
    async fn execute_process(&self, task: &Task, run: &mut Run) -> End {
        let (pid, known) = mpsc::channel(1);
        run.pid = Some(pid);
        let shard = run.line.shard.clone();
        let log = ProcessLog::start(&self.roles, shard, task.id, run.claim.run.clone());
        run.log = Some(log.chunks());
        let process = Process {
            claim: &run.claim,
            line: &run.line,
            switch: &run.switch,
            since: run.since,
        };
        let end = process.run(&self.host, known, self.work(task, run)).await;
        // Who sees its end can read its whole log.
        let close = Close {
            last: end.is_last(task),
            stop: run.switch.stop.clone(),
        };
        let bytes = log.close(close).await;
        end.with_log(bytes)
    }

    /// Does what one task says.
    pub(crate) async fn work(&self, task: &Task, run: &Run) -> End {
        match &task.work {
            Work::Handler(name) => self.handle(name, task, run).await,
            Work::Command(argv) if self.commands.allowed => {
                Box::pin(self.command(argv.clone(), task, run)).await
            }
            Work::Command(_) => End::Refused(
                "no worker of this queue allows commands; start one with `pmq worker --allow-commands`, or name a task of its [tasks.NAME]".into(),
            ),
        }
    }

    async fn handle(&self, name: &str, task: &Task, run: &Run) -> End {
        match self.handlers.get(name) {
            None => End::Refused(format!(
                "no worker of this queue knows a task named '{name}'"
            )),
            Some(Handler::Function(function)) => {
                say_here(run.pid.as_ref());
                self.function(function, task, run).await
            }
            Some(Handler::Template(template)) => match template(&task.body) {
                Ok(argv) => {
                    let argv = argv
                        .into_iter()
                        .map(std::os::unix::ffi::OsStringExt::into_vec)
                        .collect();
                    let task = without_surroundings(task);
                    Box::pin(self.command(argv, &task, run)).await
                }
                Err(problem) => End::failed(How::FailedForGood, problem),
            },
            Some(Handler::Runner(runner)) => {
                say_here(run.pid.as_ref());
                Box::pin(self.ask(runner, task, run)).await
            }
        }
    }

    async fn function(&self, function: &Function, task: &Task, run: &Run) -> End {
        let context = Context {
            id: task.id,
            attempt: run.claim.attempt(),
            token: run.claim.run.token(),
            queue: run.line.shard.queue().clone(),
            worker: self.host.worker.clone(),
            stop: run.switch.stop.clone(),
            log: run.log.clone(),
        };
        let lineage = task.details.process.as_ref();
        let answer = call(function, context, task.body.clone(), lineage);
        let answer = lending::with_lender(run.lender.clone(), answer);
        let answer = self.broker.clone().scope(answer);
        tokio::select! {
            biased;
            answer = answer => answer.map_or_else(End::from, End::ok),
            () = run.switch.stop.cancelled() => End::failed(How::Failed, "stopped"),
            () = expire(limit(task)) => End::timed_out(task),
        }
    }

    async fn ask(&self, runner: &crate::runner::Runner, task: &Task, run: &Run) -> End {
        let request = Request {
            id: uuid::Uuid::from_bytes(*task.id.as_bytes()),
            name: task.label(),
            attempt: run.claim.attempt().into(),
            queue: run.line.shard.queue().to_string(),
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
            Err(RunnerError::TimedOut) => End::timed_out(task),
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
            queue: run.line.shard.queue(),
            slot: run.slot,
        };
        let ticket = self.desk.as_ref().map(|desk| desk.admit(&run.lender));
        let mut command = self.commands.prepare(argv, &task.details, &around);
        if !task.body.is_empty() && matches!(task.work, Work::Command(_)) {
            command.stdin = Some(task.body.clone());
        }
        let lending = ticket.iter().flat_map(Ticket::variables);
        command.program.env.extend(lending);
        command.interrupt = run.switch.interrupt().clone();
        command.live = run.log.clone();
        command.kill = run.switch.kill().clone();
        command.pid = run.pid.clone();
        match command.run(&self.guard, run.switch.stop.clone()).await {
            Ok(ended) => End::of_command(ended, task),
            Err(error) if is_workers_trouble(&error) => {
                tracing::error!(target: "pmq", error = %chain(&error), "can't run commands now; handing them back");
                sleep(Duration::from_secs(1)).await;
                End::Released
            }
            Err(error) => End::not_started(&error),
        }
    }

    /// Tells the finisher of the run's line.
    async fn post(&self, run: Run, end: End) {
        let Some(finisher) = self.finishers.get(run.line.index) else {
            return;
        };
        let elapsed = run.since.elapsed().as_micros() as u64;
        let started_us = run.claim.claimed_ms * 1000;
        let completion = |how: How, exit, report, body| Completion {
            exit,
            finished_us: started_us + elapsed,
            worker: self.host.worker.to_string(),
            report,
            body,
            ..run.claim.completion(how)
        };
        let (id, sealing) = (run.claim.id, run.line.shard.sealing());
        let post = match end {
            End::Finished {
                how,
                exit,
                report,
                body,
            } => Post::Finish(pmq_broker::task_queue::Finish::new(
                &run.claim,
                how,
                &completion(how, exit, report, body),
                sealing,
            )),
            End::Refused(why) => {
                let report = Report {
                    error: Some(why),
                    ..Report::default()
                };
                let completion = completion(How::Dead, None, report, Bytes::new());
                let completion = sealing.seal_completion(&completion, &run.claim.envelope);
                Post::Refuse(id, run.claim.run.clone(), completion)
            }
            End::Released => Post::Release(id, run.claim.run.clone()),
            End::Dropped => Post::Drop(id, run.claim.run.clone()),
        };
        // The finisher ends only after the last run has.
        if let Err(TrySendError::Full(post)) = finisher.try_send(post) {
            let _ = finisher.send(post).await;
        }
    }
}

/// The end of a task that can't be trusted or read here; another worker may be able to.
fn unopened(error: &Error, envelope: &[u8]) -> End {
    match error {
        Error::Encrypted { .. } => {
            End::Refused(format!("{error}; a worker with the authkey may run it"))
        }
        Error::Unreadable { .. } if envelope::is_newer(envelope) => {
            End::Refused(format!("{error}; a newer worker may run it"))
        }
        _ => End::failed(How::Dead, error.to_string()),
    }
}

/// The task of a worker's own command. Directory and environment are its worker's as well: a producer that may not run
/// commands could run anything by a variable like `LD_PRELOAD`.
fn without_surroundings(task: &Task) -> Box<Task> {
    let mut task = Box::new(task.clone());
    task.details.cwd.clear();
    task.details.env.clear();
    task
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
