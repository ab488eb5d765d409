//! pmq is Python's `multiprocessing` for a fleet of machines, on the Redis or Valkey that people already run.
//!
//! Producers and workers share the names of tasks with their types; a worker on any host runs them.
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

pub use pmq_broker::queue;
pub use pmq_broker::task_queue;
pub use pmq_broker::{
    Broker, Completion, Config, Error, GetError, Incarnation, JoinableQueue, Name, Outcome,
    Password, PutError, Queue, RawQueue, Result, SimpleQueue, TaskId, TaskQueue,
};
pub use pmq_worker::{
    Commands, Context, Options, Task, TaskError, Worker, WorkerError, child, runner,
};

/// A task as it is submitted, with all its options; [`Task::call`] makes one.
pub use pmq_broker::Task as Submission;
