//! pmq's worker: claims tasks with `get_nowait`, runs them in its slots, and posts their completions.
//!
//! ```no_run
//! use pmq_broker::{Broker, Config, Name};
//! use pmq_worker::{Task, Worker};
//!
//! const SQUARE: Task<i64, i64> = Task::new("square");
//!
//! # async fn example() -> Result<(), pmq_worker::WorkerError> {
//! let broker = Broker::connect(&Config::from_env()?).await?;
//! let mut worker = Worker::new(broker);
//! worker.handle(SQUARE, |x| async move { Ok::<_, String>(x * x) });
//! worker.run(std::future::pending()).await?;
//! # Ok(()) }
//! ```
//!
//! Each role is a file with one loop: the [`claimer`](self) asks for tasks, the executor runs them, the finisher
//! commits how they ended, the heartbeat renews the lease, the reclaimer takes back what dead workers held. They share
//! only what the worker holds (`held.rs`) and send each other messages.

mod backlog;
mod brisk;
pub mod child;
mod chunk;
mod claimer;
mod commands;
mod end;
mod executor;
mod finisher;
mod handlers;
mod health;
mod heartbeat;
mod held;
mod lending;
mod lives;
mod options;
mod print;
mod process;
mod process_log;
mod reclaimer;
pub mod runner;
mod slots;
mod staff;
mod standing_back;
mod turns;
mod worker;

pub use commands::Commands;
pub use handlers::{Context, TaskError};
pub use options::{Health, Options};
pub use pmq_broker::typed::Task;
pub use print::print;
pub use worker::{Report, Worker, WorkerError};
