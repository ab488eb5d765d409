//! A program that is producer and fleet in one: it starts itself again as the workers of its pools.

use std::collections::HashSet;
use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use pmq_broker::pool::PoolBuilder;
use pmq_broker::process::{active_children, at_exit, cpu_count};
use pmq_broker::{Broker, Config, Error, Manager, Pool, PoolError, Process, ProcessError};
use pmq_worker::{Worker, WorkerError};
use serde::{Serialize, de::DeserializeOwned};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Task;
use crate::crew::Crew;
use crate::hands::Hands;
use crate::pool_worker;

/// How long daemons and the workers of terminated pools have to end, at the end of the program.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Gives a worker one handler.
type Register = Box<dyn FnOnce(&mut Worker) + Send>;

/// A whole program: its handlers, and what it does with them. In Python this is a module with its
/// `if __name__ == '__main__'`.
///
/// With a Redis URL (`PMQ_REDIS_URL`) its pools run on the fleet. Without one they are local, as Python's: the program
/// is started again as their workers, in which [`Program::run`] calls no `main`. What `main` of the process does before
/// `run` is done there as well.
///
/// Started with `PMQ_SERVE=QUEUE` in its environment, it is a worker of the fleet on this queue, with its handlers.
#[derive(Default)]
pub struct Program {
    config: Option<Config>,
    names: HashSet<String>,
    handlers: Vec<Register>,
}

/// Why a program could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The broker refused it, or could not be reached.
    #[error(transparent)]
    Broker(#[from] Error),

    /// As a worker, it ended without being asked to.
    #[error(transparent)]
    Worker(#[from] WorkerError),

    /// Its processes could not be joined at its end.
    #[error(transparent)]
    Process(#[from] ProcessError),

    /// What tells it to be a worker is not written by this program.
    #[error("unreadable PMQ_POOL_WORKER: {0}; it is set by pmq alone")]
    NoPoolWorker(String),

    /// The signals that end a worker can't be heard.
    #[error("could not listen for signals")]
    Signals(#[source] std::io::Error),
}

impl Program {
    /// A program without handlers, on the broker that the environment names.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the broker; the environment names it otherwise ([`Config::from_env`]).
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// Runs tasks of this name with an async function of their arguments.
    #[must_use]
    pub fn handle<A, R, E, F, Fut>(mut self, task: Task<A, R>, function: F) -> Self
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        E: Display + Send + 'static,
        F: Fn(A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
    {
        self.names.insert(task.name().to_owned());
        self.handlers.push(Box::new(move |worker| {
            worker.handle(task, function);
        }));
        self
    }

    /// Runs `main` in the parent process; in a process that is started as a worker, works until it is told to end.
    ///
    /// When `main` has ended, the processes that it has started are joined, and its daemons then terminated, as at the
    /// end of a Python program.
    pub async fn run<E: From<ProgramError>>(
        self,
        main: impl AsyncFnOnce(Parent) -> Result<(), E>,
    ) -> Result<(), E> {
        let role = pool_worker::role()?;
        let config = match &self.config {
            Some(config) => config.clone(),
            None => Config::from_env().map_err(ProgramError::from)?,
        };
        let broker = Broker::connect(&config).await.map_err(ProgramError::from)?;
        if let Some(role) = role {
            let mut worker = Worker::new(broker);
            for handler in self.handlers {
                handler(&mut worker);
            }
            return Ok(Box::pin(role.work(worker)).await?);
        }
        let crews = Arc::new(Mutex::new(JoinSet::new()));
        let hands = Arc::new(tokio::sync::Mutex::default());
        let parent = Parent {
            broker: broker.clone(),
            is_local: config.url.is_none(),
            names: self.names,
            crews: crews.clone(),
            hands: hands.clone(),
        };
        let ended = broker.clone().scope(Box::pin(main(parent))).await;
        let joined = end_children(&broker).await;
        let hands = hands.lock().await.take();
        if let Some(hands) = hands {
            hands.end().await;
        }
        let crews = std::mem::take(&mut *crews.lock().unwrap_or_else(PoisonError::into_inner));
        // A pool that is still open where nobody can reach it goes with this process.
        let _ = timeout(END_WITHIN, crews.join_all()).await;
        ended?;
        Ok(joined.map_err(ProgramError::from)?)
    }
}

/// Joins the processes that this one has started, and terminates its daemons.
async fn end_children(broker: &Broker) -> Result<(), ProcessError> {
    for child in active_children(broker).await? {
        if !child.is_daemon() {
            child.join().await?;
        }
    }
    // A daemon that does not listen ends with its worker, or with the lease of this process.
    timeout(END_WITHIN, at_exit(broker)).await.unwrap_or(Ok(()))
}

/// The parent process: where `main` runs, and pools are opened.
pub struct Parent {
    broker: Broker,
    is_local: bool,
    names: HashSet<String>,
    crews: Arc<Mutex<JoinSet<()>>>,
    hands: Arc<tokio::sync::Mutex<Option<Hands>>>,
}

impl Parent {
    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// How many tasks can run at once: the CPUs of this machine where the broker is local, otherwise the slots of the
    /// fleet that is up; at least 1. In Python this is `multiprocessing.cpu_count`.
    pub async fn cpu_count(&self) -> Result<usize, Error> {
        if self.is_local {
            return Ok(thread::available_parallelism().map_or(1, usize::from));
        }
        cpu_count(&self.broker).await
    }

    /// Makes shared objects on the broker. In Python this is `multiprocessing.Manager()`.
    #[must_use]
    pub fn manager(&self) -> Manager {
        Manager::new(&self.broker)
    }

    /// Starts a process, and shows here what it prints: on this machine, in a worker of this program, where the broker is
    /// local; on the fleet otherwise. In Python this is `Process.start`.
    ///
    /// A local one ends with this program, however that ends.
    pub async fn start(&self, process: Process) -> Result<Process, ProcessError> {
        let mut process = process.echo(true);
        if self.is_local {
            let mut hands = self.hands.lock().await;
            let hands = match &mut *hands {
                Some(hands) => hands,
                empty => empty.insert(Hands::open(&self.broker).await?),
            };
            let alive = active_children(&self.broker).await?.len();
            hands.at_least(alive + 1);
            process = process.queue(hands.queue().clone());
            process.start(&self.broker).await?;
        } else {
            process.start(&self.broker).await?;
        }
        Ok(process)
    }

    /// A pool of `n` processes: of its own where the broker is local, of the fleet otherwise. In Python this is
    /// `Pool(n)`.
    pub async fn pool(&self, n: usize) -> Result<Pool, PoolError> {
        self.open(Pool::builder(&self.broker).processes(n)).await
    }

    /// A pool that is set up in detail; see [`Parent::pool`].
    pub async fn open(&self, pool: PoolBuilder) -> Result<Pool, PoolError> {
        if self.is_local {
            self.open_local(pool).await
        } else {
            pool.open().await
        }
    }

    /// A pool with processes of its own on this machine, wherever the broker is.
    pub async fn open_local(&self, pool: PoolBuilder) -> Result<Pool, PoolError> {
        let (processes, max_tasks) = (pool.process_count(), pool.tasks_per_child());
        let (pool, link) = pool.open_with_crew(self.names.clone()).await?;
        let crew = Crew {
            processes,
            max_tasks,
            link,
        };
        let mut crews = self.crews.lock().unwrap_or_else(PoisonError::into_inner);
        crews.spawn(crew.run());
        Ok(pool)
    }
}
