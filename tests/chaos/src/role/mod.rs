//! The processes of a run: each is this program again, told what to be by a brief of JSON.

mod body;
mod consumer;
mod crowd;
mod hand;
mod holder;
mod producer;
mod queue_ends;
mod registers;
mod stall;
mod waiter;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use pmq_broker::{Broker, Config, Name};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::history::Recorder;

pub(crate) use producer::planned;
pub(crate) use stall::watch;
pub(crate) use worker::HANDLER;

/// The completion queue of every task queue in a run.
pub const COMPLETIONS: &str = "done";
/// The kind of the histories that stand for effects outside of Redis.
const EFFECTS: &str = "effects";

/// Who a process is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Brief {
    /// Its name in the history.
    pub actor: String,
    /// Where the broker is, by which way.
    pub url: String,
    /// Where histories go.
    pub directory: PathBuf,
    /// What its choices are made of.
    pub seed: u64,
    /// The lease of workers, consumers and locks, in ms.
    pub lease_ms: u64,
    /// What it does.
    pub role: Role,
}

/// What a process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs tasks of these queues, as any program with pmq does.
    Worker {
        /// The queues.
        queues: Vec<String>,
        /// How many at once.
        slots: usize,
    },
    /// Claims and finishes by hand: late, twice, again much later.
    Hand {
        /// The queue.
        queue: String,
        /// Whether it is late on purpose.
        lazy: bool,
    },
    /// Submits tasks to these queues.
    Producer {
        /// The queues.
        queues: Vec<String>,
        /// Tasks a second.
        rate: u64,
        /// What they are like.
        mix: Mix,
    },
    /// Gets the completions of a queue.
    Consumer {
        /// The queue.
        queue: String,
    },
    /// Submits one task at a time, and waits for its end.
    Waiter {
        /// The queue.
        queue: String,
    },
    /// Takes a lock, does guarded work, and gives it back.
    Holder {
        /// The lock.
        lock: String,
    },
    /// Puts numbered items into a plain queue.
    Sender {
        /// The queue.
        queue: String,
        /// Items a second.
        rate: u64,
    },
    /// Gets the items of a plain queue.
    Receiver {
        /// The queue.
        queue: String,
    },
    /// Reads and changes shared values and dict entries.
    Registers {
        /// How many keys.
        keys: u8,
    },
    /// Many workers in one process that wait for a task.
    Crowd {
        /// The queue.
        queue: String,
        /// How many.
        workers: usize,
    },
}

/// What the tasks of a producer are like.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    /// The longest run, in ms.
    pub longest_ms: u64,
    /// Whether some fail, are delayed, have priorities, are cancelled and submitted again.
    pub varied: bool,
    /// Whether workers die of some.
    pub poison: bool,
    /// The size of a few large bodies, in bytes; 0 for none.
    pub large: usize,
}

impl Mix {
    /// Short tasks of all kinds that harm nobody.
    pub const VARIED: Self = Self {
        longest_ms: 200,
        varied: true,
        poison: false,
        large: 0,
    };
    /// Short tasks that all are alike.
    pub const PLAIN: Self = Self {
        longest_ms: 20,
        varied: false,
        poison: false,
        large: 0,
    };
}

/// What every role has at hand.
struct Stage {
    brief: Brief,
    broker: Broker,
    recorder: Recorder,
    /// Cancelled when the process is asked to end.
    stop: CancellationToken,
}

impl Stage {
    fn lease(&self) -> Duration {
        Duration::from_millis(self.brief.lease_ms)
    }

    fn rng(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.brief.seed)
    }

    /// Waits, unless the process is asked to end first.
    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// A name that is known to be one.
pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("names of the harness keep to the grammar")
}

impl Brief {
    /// Plays the role until SIGTERM.
    pub fn play(self) -> Result<()> {
        let recorder = Recorder::open(&self.directory, &self.actor, "seen")?;
        watch(recorder.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(self.act(recorder))
    }

    async fn act(self, recorder: Recorder) -> Result<()> {
        let stop = CancellationToken::new();
        let mut terminated = signal(SignalKind::terminate())?;
        let told = stop.clone();
        tokio::spawn(async move {
            terminated.recv().await;
            told.cancel();
        });
        let Some(broker) = connect(&self.url, &stop).await else {
            return Ok(());
        };
        let stage = Stage {
            brief: self,
            broker,
            recorder,
            stop,
        };
        match stage.brief.role.clone() {
            Role::Worker { queues, slots } => worker::play(&stage, &queues, slots).await,
            Role::Hand { queue, lazy } => hand::play(&stage, &queue, lazy).await,
            Role::Producer { queues, rate, mix } => {
                producer::Producer::new(&stage, mix)
                    .play(&queues, rate)
                    .await
            }
            Role::Consumer { queue } => consumer::play(&stage, &queue).await,
            Role::Waiter { queue } => waiter::play(&stage, &queue).await,
            Role::Holder { lock } => holder::play(&stage, &lock).await,
            Role::Sender { queue, rate } => queue_ends::send(&stage, &queue, rate).await,
            Role::Receiver { queue } => queue_ends::receive(&stage, &queue).await,
            Role::Registers { keys } => registers::play(&stage, keys).await,
            Role::Crowd { queue, workers } => crowd::play(&stage, &queue, workers).await,
        }
    }
}

/// Connects, again and again while the broker is away; `None` where the process is to end first.
async fn connect(url: &str, stop: &CancellationToken) -> Option<Broker> {
    loop {
        match Broker::connect(&Config::url(url)).await {
            Ok(broker) => return Some(broker),
            Err(error) => eprintln!("could not connect: {error}"),
        }
        tokio::select! {
            () = sleep(Duration::from_millis(200)) => {}
            () = stop.cancelled() => return None,
        }
    }
}
