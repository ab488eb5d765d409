//! pmq's broker: tasks, queues and locks on Redis or Valkey. The only crate of pmq that speaks to Redis.
//!
//! ```no_run
//! # async fn example() -> pmq_broker::Result<()> {
//! use pmq_broker::{Broker, Config, Name, Task};
//!
//! let broker = Broker::connect(&Config::from_env()?).await?;
//! let queue = broker.task_queue(&Name::new("default")?);
//! queue.submit(&Task::handler("square", "7").with_completions(Name::new("done")?)).await?;
//! let completion = queue.completions(&Name::new("done")?).get(std::time::Duration::from_secs(10)).await?;
//! # Ok(()) }
//! ```
//!
//! In reading order: [`ids`], [`task`], [`envelope`] and [`completion`] are plain data; [`keys`] names every key;
//! [`functions`] is the library of state changes; [`broker`] connects; [`task_queue`] calls.
//!
//! Then the words of multiprocessing: [`semaphore`] and [`lock`], which the others resemble, [`rlock`], [`condition`],
//! [`event`], [`barrier`]; [`queue`] and [`pipe`]; [`manager`] for what is shared; [`process`] and [`pool`] for what runs;
//! [`lending`], by which who waits for others makes room for them.

pub mod access;
pub mod acl;
mod ambient;
pub mod authkey;
pub mod barrier;
pub mod broker;
pub mod completion;
pub mod condition;
pub mod config;
#[expect(
    clippy::disallowed_types,
    reason = "this is the one place where connections live"
)]
pub mod connection;
pub mod durability;
pub mod envelope;
pub mod error;
pub mod event;
pub mod fleet;
mod fresh;
pub mod functions;
pub mod ids;
pub mod keys;
pub mod lending;
pub mod lock;
pub mod manager;
mod object;
pub mod pipe;
pub mod pool;
pub mod process;
pub mod queue;
mod reply;
pub mod rights;
pub mod rlock;
pub mod sealing;
pub mod secret;
pub mod semaphore;
pub mod slot;
pub mod task;
pub mod task_queue;
pub mod typed;

pub use authkey::{Authkey, AuthkeySource};
pub use barrier::Barrier;
pub use broker::{Broker, PATIENCE};
pub use completion::{Completion, Outcome, Report};
pub use condition::Condition;
pub use config::{Config, Password, Tls};
pub use durability::Durability;
pub use error::{Error, Result};
pub use event::Event;
pub use ids::{Incarnation, Name, TaskId};
pub use lock::Lock;
pub use manager::{Array, Dict, List, Manager, Namespace, Shared, Slice, Value};
pub use pipe::{Connection, PipeOptions, Receiver, RecvError, SendError, Sender, Ticket};
pub use pool::{AsyncResult, Pool, PoolError};
pub use process::{Process, ProcessError};
pub use queue::{GetError, JoinableQueue, PutError, Queue, RawQueue, SimpleQueue};
pub use rlock::{RLock, RLockGuard};
pub use sealing::{Distrust, Sealing};
pub use semaphore::{Permit, Semaphore};
pub use task::{Details, Due, Retry, Task, Work};
pub use task_queue::TaskQueue;

/// This machine's clock, in ms since the epoch: for what people read, never for what decides.
pub(crate) fn wall_clock_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}
