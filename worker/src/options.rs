//! What a worker's owner decides.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use pmq_broker::task_queue::DEFAULT_LEASE;
use pmq_broker::{Incarnation, Name};

use crate::Commands;

/// Options of a worker.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name in completions and in `status`; host and process id unless set.
    pub name: String,
    /// The queues it serves, in the order in which it asks them; `default` unless set.
    pub queues: Vec<Name>,
    /// How many tasks it runs at once; the number of CPUs unless set.
    pub slots: usize,
    /// Whether it ends as soon as nothing is ready and its slots are free. Scheduled tasks are not awaited.
    pub burst: bool,
    /// How long it may be silent before others take its tasks; 15 s unless set, at least 1 s.
    pub lease: Duration,
    /// Where it posts completions of tasks that name no completion queue.
    pub completions: Option<Name>,
    /// How long running tasks may go on after it was asked to stop; 25 s unless set.
    pub grace: Duration,
    /// Which commands it runs; none unless set.
    pub commands: Commands,
    /// How others see that its claim loop turns.
    pub health: Health,
    /// After how many tasks it ends; never unless set.
    pub max_tasks: Option<usize>,
    /// Who it is on its first queue, for those who know when it dies; somebody new unless set.
    pub incarnation: Option<Incarnation>,
}

/// How others see that a worker's claim loop turns.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// A file that is touched about every second.
    pub file: Option<PathBuf>,
    /// An address that answers HTTP requests: 200 while the loop turns, else 503.
    pub addr: Option<SocketAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: default_name(),
            queues: vec![Name::new("default").expect("it keeps to the grammar")],
            slots: std::thread::available_parallelism().map_or(1, usize::from),
            burst: false,
            lease: DEFAULT_LEASE,
            completions: None,
            grace: Duration::from_secs(25),
            commands: Commands::default(),
            health: Health::default(),
            max_tasks: None,
            incarnation: None,
        }
    }
}

/// Host and process id: alone, neither tells two workers apart.
fn default_name() -> String {
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    format!("{host}-{}", std::process::id())
}
