//! A worker: its roles put together, from start to stop.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use pmq_broker::task_queue::{Finished, How, Waiter};
use pmq_broker::{Broker, Incarnation, TaskQueue};
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::child::{CommandError, Guard};
use crate::claimer::ClaimLoop;
use crate::executor::{Executor, Shared};
use crate::finisher::{BACKLOG, Finisher, Post};
use crate::handlers::{Handler, Handlers, typed};
use crate::health::Pulse;
use crate::heartbeat::{Heart, be_present, listen};
use crate::held::{Line, Why};
use crate::runner::Runner;
use crate::slots::Slots;
use crate::{Context, Options, Task, TaskError, reclaimer};

/// How long stopped runs have to end before they are killed.
const KILL_AFTER: Duration = Duration::from_secs(2);

/// Why a worker ended that was not asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The broker refused it, or could not be reached at the start.
    #[error(transparent)]
    Broker(#[from] pmq_broker::Error),

    /// The guard, which kills the worker's commands with it, did not start.
    #[error("could not start the guard of this worker's commands")]
    Guard(#[source] CommandError),

    /// The thread for the worker's own loops did not start.
    #[error("could not start the worker's thread")]
    Thread(#[source] std::io::Error),

    /// The claim loop has not turned for a minute. Start the worker again.
    #[error("the claim loop has not turned for a minute; start the worker again")]
    Stuck,
}

/// What a worker did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Runs that succeeded.
    pub ok: u64,
    /// Runs that failed, whether they are tried again or not.
    pub failed: u64,
    /// Runs whose task somebody cancelled.
    pub cancelled: u64,
    /// Runs whose result came too late.
    pub lost: u64,
}

/// Counts while the worker runs.
#[derive(Default)]
pub(crate) struct Tally {
    ok: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    lost: AtomicU64,
}

impl Tally {
    pub(crate) fn count(&self, finished: Finished, how: How) {
        let counter = match (finished, how) {
            (Finished::Lost, _) => &self.lost,
            (_, How::Ok) => &self.ok,
            (_, How::Cancelled) => &self.cancelled,
            _ => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn report(&self) -> Report {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Report {
            ok: read(&self.ok),
            failed: read(&self.failed),
            cancelled: read(&self.cancelled),
            lost: read(&self.lost),
        }
    }
}

/// A worker that is being set up. In Python's multiprocessing it is one process of a `Pool`, on any host.
pub struct Worker {
    broker: Broker,
    /// What its owner decides.
    pub options: Options,
    handlers: Handlers,
    guard: Option<Guard>,
}

impl Worker {
    /// A worker with the default options and no handlers.
    #[must_use]
    pub fn new(broker: Broker) -> Self {
        Self {
            broker,
            options: Options::default(),
            handlers: Handlers::default(),
            guard: None,
        }
    }

    /// Runs tasks of this name with an async function of their arguments.
    pub fn handle<A, R, E, F, Fut>(&mut self, task: Task<A, R>, function: F) -> &mut Self
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        E: Display + Send + 'static,
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        self.handlers.add(task.name(), typed(task, function));
        self
    }

    /// Runs tasks of this name with a function of their bytes, which also learns about the run.
    pub fn handle_bytes<F, Fut>(&mut self, name: &str, function: F) -> &mut Self
    where
        F: Fn(Context, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, TaskError>> + Send + 'static,
    {
        self.handlers.add(
            name,
            Handler::Function(Arc::new(move |context, body| {
                Box::pin(function(context, body))
            })),
        );
        self
    }

    /// Runs tasks of these names in a long-lived child.
    pub fn handle_with_runner(
        &mut self,
        names: &[String],
        config: crate::runner::Config,
    ) -> Result<&mut Self, WorkerError> {
        let runner = Runner::start(config, self.guard()?);
        for name in names {
            self.handlers.add(name, Handler::Runner(runner.clone()));
        }
        Ok(self)
    }

    /// Runs tasks of this name as a command that `template` makes of their body, or refuses with a reason.
    pub fn handle_with_command<F>(&mut self, name: &str, template: F) -> &mut Self
    where
        F: Fn(&[u8]) -> Result<Vec<std::ffi::OsString>, String> + Send + Sync + 'static,
    {
        self.handlers
            .add(name, Handler::Template(Arc::new(template)));
        self
    }

    fn guard(&mut self) -> Result<Guard, WorkerError> {
        if let Some(guard) = &self.guard {
            return Ok(guard.clone());
        }
        let guard = Guard::start(Incarnation::new().to_string()).map_err(WorkerError::Guard)?;
        self.guard = Some(guard.clone());
        Ok(guard)
    }

    /// Works until `stop` resolves, or, in burst mode, until nothing is ready.
    ///
    /// Asked to stop, it claims no more, lets running tasks end within the grace, and hands back the rest.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<Report, WorkerError> {
        self.run_until(stop, std::future::pending()).await
    }

    /// As [`Worker::run`]; `hurry` cuts the grace short.
    pub async fn run_until(
        mut self,
        stop: impl Future<Output = ()> + Send,
        hurry: impl Future<Output = ()> + Send,
    ) -> Result<Report, WorkerError> {
        self.options.slots = self.options.slots.max(1);
        self.options.lease = self.options.lease.max(Duration::from_secs(1));
        let guard = self.guard()?;
        let grace = self.options.grace;
        let office = Office::open()?;
        let mut staff = office.start(self, guard);
        let ended = staff.work(stop).await;
        staff.wind_up(grace, hurry).await;
        ended.map(|()| staff.tally.report())
    }
}

/// A thread of its own for the roles, so that a handler that blocks its thread delays no heartbeat.
struct Office(Option<Runtime>);

impl Office {
    fn open() -> Result<Self, WorkerError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("pmq-worker")
            .enable_all()
            .build();
        Ok(Self(Some(runtime.map_err(WorkerError::Thread)?)))
    }

    fn start(&self, worker: Worker, guard: Guard) -> Staff {
        let handlers = Handle::current();
        let _entered = self.0.as_ref().map(Runtime::enter);
        Staff::start(worker, guard, handlers)
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The roles at work.
struct Staff {
    lines: Vec<Arc<Line>>,
    freed: Arc<Notify>,
    tally: Arc<Tally>,
    shutdown: CancellationToken,
    claiming: JoinHandle<Result<(), pmq_broker::Error>>,
    stuck: JoinHandle<()>,
    /// They end when the last run has.
    finishers: JoinSet<()>,
    /// They are ended when all work is done.
    helpers: Vec<AbortHandle>,
}

impl Staff {
    fn start(worker: Worker, guard: Guard, runtime: Handle) -> Self {
        let Worker {
            broker,
            options,
            handlers,
            ..
        } = worker;
        let broker = broker.apart();
        let queues: Vec<TaskQueue> = options
            .queues
            .iter()
            .map(|name| broker.task_queue(name))
            .collect();
        let (freed, reclaim, tally) = (
            Arc::new(Notify::new()),
            Arc::new(Notify::new()),
            Arc::new(Tally::default()),
        );
        let lines: Vec<Arc<Line>> = queues
            .iter()
            .map(|q| Arc::new(Line::new(q.clone(), freed.clone())))
            .collect();
        let slots = Slots::new(options.slots);
        let pulse = Pulse::new();
        let shutdown = CancellationToken::new();

        let (finishers, posts) = start_finishers(&lines, &tally);
        let mut helpers = start_hearts(&lines, &options, &reclaim);
        helpers.push(
            tokio::spawn(reclaimer::run(
                queues.clone(),
                options.lease,
                reclaim.clone(),
            ))
            .abort_handle(),
        );
        if let Some(queue) = queues.first() {
            helpers.push(
                tokio::spawn(be_present(
                    queue.clone(),
                    about(&options, &handlers, &slots),
                ))
                .abort_handle(),
            );
        }
        let stuck = tokio::spawn(pulse.clone().watch(options.health.clone()));
        let executor = Executor::new(Shared {
            worker: options.name.as_str().into(),
            handlers,
            commands: options.commands.clone(),
            guard,
            runtime,
            finishers: posts,
        });
        let claimer = ClaimLoop {
            claimers: lines
                .iter()
                .map(|line| {
                    (
                        line.incarnation(),
                        line.queue.claimer(
                            line.incarnation(),
                            options.lease,
                            options.completions.as_ref(),
                        ),
                    )
                })
                .collect(),
            lines: lines.clone(),
            slots,
            executor,
            waiter: Waiter::for_tasks(&broker, &queues, Duration::from_secs(5)),
            reclaim,
            pulse,
            burst: options.burst,
            lease: options.lease,
            shutdown: shutdown.clone(),
        };
        let claiming = tokio::spawn(claimer.run());
        Self {
            lines,
            freed,
            tally,
            shutdown,
            claiming,
            stuck,
            finishers,
            helpers,
        }
    }

    /// Until the claimer ends by itself, or is asked to.
    async fn work(&mut self, stop: impl Future<Output = ()>) -> Result<(), WorkerError> {
        tokio::select! {
            ended = &mut self.claiming => match ended {
                Ok(ended) => ended.map_err(WorkerError::from),
                Err(_) => Err(WorkerError::Stuck),
            },
            () = stop => {
                self.shutdown.cancel();
                let _ = (&mut self.claiming).await;
                Ok(())
            }
            _ = &mut self.stuck => {
                self.claiming.abort();
                Err(WorkerError::Stuck)
            }
        }
    }

    /// Lets runs end within the grace, hands back the rest, and waits until everything is committed.
    async fn wind_up(&mut self, grace: Duration, hurry: impl Future<Output = ()>) {
        tokio::select! {
            () = self.idle() => {}
            () = sleep(grace) => {}
            () = hurry => {}
        }
        for kill in [false, true] {
            for line in &self.lines {
                line.stop_all(Why::Shutdown, kill);
            }
            let _ = timeout(KILL_AFTER, self.idle()).await;
        }
        for line in &self.lines {
            let _ = timeout(Duration::from_millis(500), line.queue.pass_wake()).await;
        }
        while self.finishers.try_join_next().is_some() {}
        for helper in &self.helpers {
            helper.abort();
        }
        self.stuck.abort();
    }

    /// Until nothing is held.
    async fn idle(&self) {
        loop {
            let freed = self.freed.notified();
            if self.lines.iter().all(|line| line.count() == 0) {
                return;
            }
            freed.await;
        }
    }
}

fn start_finishers(
    lines: &[Arc<Line>],
    tally: &Arc<Tally>,
) -> (JoinSet<()>, Vec<(Arc<Line>, mpsc::Sender<Post>)>) {
    let mut finishers = JoinSet::new();
    let posts = lines.iter().map(|line| {
        let (sender, posts) = mpsc::channel(BACKLOG);
        finishers.spawn(
            Finisher {
                line: line.clone(),
                posts,
                tally: tally.clone(),
            }
            .run(),
        );
        (line.clone(), sender)
    });
    let posts = posts.collect();
    (finishers, posts)
}

fn start_hearts(lines: &[Arc<Line>], options: &Options, reclaim: &Arc<Notify>) -> Vec<AbortHandle> {
    let orders: Vec<Arc<Notify>> = lines.iter().map(|_| Arc::default()).collect();
    let mut helpers: Vec<AbortHandle> = lines
        .iter()
        .zip(&orders)
        .map(|(line, orders)| Heart {
            line: line.clone(),
            lease: options.lease,
            reclaim: reclaim.clone(),
            orders: orders.clone(),
        })
        .map(|heart| tokio::spawn(heart.run()).abort_handle())
        .collect();
    helpers.push(tokio::spawn(listen(lines.to_vec(), orders)).abort_handle());
    helpers
}

/// What the worker says about itself.
fn about(
    options: &Options,
    handlers: &Handlers,
    slots: &Slots,
) -> impl Fn() -> String + Send + 'static {
    let started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64);
    let fixed = serde_json::json!({
        "name": options.name,
        "host": rustix::system::uname().nodename().to_string_lossy(),
        "pid": std::process::id(),
        "queues": options.queues,
        "slots": options.slots,
        "commands": options.commands.allowed,
        "tasks": handlers.names(),
        "started": started,
        "version": env!("CARGO_PKG_VERSION"),
    });
    let slots = slots.clone();
    move || {
        let mut about = fixed.clone();
        about["running"] = slots.busy().into();
        about.to_string()
    }
}
