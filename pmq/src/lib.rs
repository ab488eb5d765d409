//! pmq is Python's `multiprocessing` for a fleet of machines, on the Redis or Valkey that people already run.
//!
//! A pool calls a handler for many items, in workers on any host, or on this machine as Python's does:
//!
//! ```no_run
//! use pmq::{Program, Task};
//!
//! const SQUARE: Task<i64, i64> = Task::new("square");
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let program = Program::new().handle(SQUARE, |x| async move { Ok::<_, String>(x * x) });
//! program.run(async |parent| {
//!     let pool = parent.pool(5).await?;
//!     println!("{:?}", pool.map(SQUARE, [1, 2, 3]).await?);
//!     Ok(())
//! }).await
//! # }
//! ```
//!
//! Beneath it, producers and workers share the names of tasks with their types; a worker on any host runs them.
//!
//! ```no_run
//! use pmq::{Broker, Config, Name, Task, Worker};
//!
//! const SQUARE: Task<i64, i64> = Task::new("square");
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = Broker::connect(&Config::from_env()?).await?;
//! let queue = broker.task_queue(&Name::new("default")?);
//! queue.submit(&SQUARE.call(&7)?.with_completions(Name::new("done")?)).await?;
//!
//! let mut worker = Worker::new(broker.clone());
//! worker.options.burst = true;
//! worker.handle(SQUARE, |x| async move { Ok::<_, String>(x * x) });
//! worker.run(std::future::pending()).await?;
//!
//! while let Some(completion) = queue.completions(&Name::new("done")?).get_nowait().await? {
//!     println!("{}", SQUARE.result(&completion)?);
//! }
//! # Ok(()) }
//! ```
//!
//! # From Python
//!
//! | `multiprocessing` | pmq |
//! |---|---|
//! | `Process`, `Process.start`, `join`, `terminate`, `kill` | [`Process`] |
//! | `current_process`, `parent_process`, `active_children`, `cpu_count` | [`current_process`], [`parent_process`], [`active_children`], [`cpu_count`] |
//! | `Pool`, `AsyncResult` | [`Pool`], [`AsyncResult`]; [`Program`] for one whose processes are this program's own |
//! | `Queue`, `JoinableQueue`, `SimpleQueue` | [`Queue`], [`JoinableQueue`], [`SimpleQueue`], and [`RawQueue`] for bytes |
//! | `Pipe`, `Connection` | [`Broker::pipe`], [`Connection`], [`Receiver`], [`Sender`], [`Ticket`] |
//! | `Lock`, `RLock`, `Semaphore`, `BoundedSemaphore` | [`Lock`], [`RLock`], [`Semaphore`], [`Broker::bounded_semaphore`] |
//! | `Condition`, `Event`, `Barrier` | [`Condition`], [`Event`], [`Barrier`] |
//! | `Manager`, `list`, `dict`, `Namespace`, `Value`, `Array` | [`Manager`], [`List`], [`Dict`], [`Namespace`], [`Value`], [`Array`] |
//! | a proxy inside of another one | [`Shared`] |

mod crew;
mod hands;
mod pool_worker;
mod post;
mod program;

pub use pmq_broker::lending::while_waiting;
pub use pmq_broker::process::{
    active_children, at_exit, cpu_count, current_process, parent_process,
};
pub use pmq_broker::{
    Array, AsyncResult, Barrier, Broker, Completion, Condition, Config, Connection, Dict, Error,
    Event, GetError, Incarnation, JoinableQueue, List, Lock, Manager, Name, Namespace, Outcome,
    Password, Permit, Pool, PoolError, Process, ProcessError, PutError, Queue, RLock, RLockGuard,
    RawQueue, Result, Semaphore, Shared, SimpleQueue, Slice, TaskId, TaskQueue, Tls, Value,
};
pub use pmq_broker::{PipeOptions, Receiver, RecvError, SendError, Sender, Ticket};
pub use pmq_broker::{manager, pipe, pool, process, queue, task_queue};
pub use pmq_worker::{
    Commands, Context, Options, Task, TaskError, Worker, WorkerError, child, print, runner,
};

pub use program::{Parent, Program, ProgramError};

/// A task as it is submitted, with all its options; [`Task::call`] makes one.
pub use pmq_broker::Task as Submission;

/// The page for those who know Python, whose programs compile.
#[cfg(doctest)]
#[doc = include_str!("../../docs/multiprocessing.md")]
struct Guide;
