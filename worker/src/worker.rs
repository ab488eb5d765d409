//! A worker: its roles put together, from start to stop.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pmq_broker::task_queue::{Finished, How};
use pmq_broker::{Broker, Error, Incarnation};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::sleep;

use crate::child::{CommandError, Guard};
use crate::handlers::{Handler, Handlers, typed};
use crate::runner::Runner;
use crate::staff::Office;
use crate::{Context, Options, Task, TaskError};

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

    pub(crate) fn report(&self) -> Report {
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
    pub(crate) broker: Broker,
    /// What its owner decides.
    pub options: Options,
    pub(crate) handlers: Handlers,
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

    /// The broker whose queues it serves.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
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

    /// Learns of the shards of its queues, however long the broker is away.
    async fn open_queues(&self) -> Result<(), WorkerError> {
        for name in &self.options.queues {
            let queue = self.broker.task_queue(name);
            while let Err(error) = queue.open_anew().await {
                if !error.is_transient() && !matches!(error, Error::Deleted { .. }) {
                    return Err(error.into());
                }
                tracing::warn!(target: "pmq", %error, "the broker is away; trying again");
                sleep(Duration::from_millis(fastrand::u64(50..500))).await;
            }
        }
        Ok(())
    }

    /// As [`Worker::run`]; `hurry` cuts the grace short.
    pub async fn run_until(
        mut self,
        stop: impl Future<Output = ()> + Send,
        hurry: impl Future<Output = ()> + Send,
    ) -> Result<Report, WorkerError> {
        if self.options.queues.is_empty() {
            self.options.queues = Options::default().queues;
        }
        self.options.slots = self.options.slots.max(1);
        self.options.lease = self.options.lease.max(Duration::from_secs(1));
        let guard = self.guard()?;
        let (mut stop, mut hurry) = (std::pin::pin!(stop), std::pin::pin!(hurry));
        let (office, tally) = (Office::open()?, Arc::<Tally>::default());
        loop {
            tokio::select! {
                biased;
                opened = self.open_queues() => opened?,
                () = &mut stop => return Ok(tally.report()),
            }
            let mut staff = office.start(&self, guard.clone(), &tally);
            let ended = staff.work(&mut stop).await;
            staff.wind_up(self.options.grace, &mut hurry).await;
            match ended {
                Err(WorkerError::Broker(error @ Error::Deleted { .. })) => {
                    tracing::warn!(target: "pmq", %error, "going on with the queue as it is now");
                    self.options.incarnation = None;
                }
                ended => return ended.map(|()| tally.report()),
            }
        }
    }
}
