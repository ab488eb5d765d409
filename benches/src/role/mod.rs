//! What a process of the run does. It says when it is ready, begins at a word, and ends with its answer, all on its
//! standard streams; it ends as well when the run does.

mod crowd;
mod latency;
mod load;
mod locks;
mod queues;
mod rates;
mod steps;

use std::io::{BufRead, Write};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, Result};
use pmq_broker::Config;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::crew::Answer;
use crate::floor::{Plain, Results};
use crate::info;

pub(crate) use rates::{BATCH, BULK, body};

/// The name of every worker of a run, which stands in completions.
pub(crate) const WORKER: &str = "bench-worker";

/// How many tasks, of how many bytes each.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Amount {
    /// Tasks.
    pub tasks: usize,
    /// Bytes of a body.
    pub size: usize,
}

/// What a worker is like.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct WorkerShape {
    /// Ends after so many tasks.
    pub tasks: usize,
    /// How many it runs at once.
    pub slots: usize,
    /// Whether the queue is paused until it begins.
    pub paused: bool,
    /// What becomes of the completions.
    pub results: Results,
    /// Whether its tasks run in a Python runner.
    pub runner: bool,
}

/// A role. Those of the floor are its plain counterparts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Submits tasks.
    Producer(Amount, Results),
    /// Runs tasks.
    Worker(WorkerShape),
    /// Gets completions.
    Consumer(Amount),
    /// Submits with plain commands.
    FloorProducer(Plain, Amount),
    /// Claims and ends with plain commands, so many at once.
    FloorWorker(Plain, Amount, usize, Results),
    /// Gets completions with plain commands.
    FloorConsumer(Plain, Amount),
    /// Ends one task at a time with plain commands until it is killed.
    FloorEcho(Plain),
    /// One task at a time through an idle worker, in turn with the plain commands.
    RoundTrip(usize),
    /// One submit at a time, in turn with the plain commands.
    SingleSubmit(usize),
    /// Submits single tasks from so many places at once.
    ConcurrentSubmit(usize, usize),
    /// So many tasks a second, and when each completion is in hand.
    Load(Amount, f64),
    /// The same with plain commands.
    FloorLoad(Amount, f64),
    /// So many idle workers, each on a connection of its own, until it is killed.
    Idlers(usize),
    /// So many tasks, each submitted when the last has ended.
    OneByOne(usize),
    /// So many workers in one process, which drain the queue.
    Swarm(usize, usize),
    /// The same with plain commands.
    FloorSwarm(usize, usize),
    /// So many rounds of submit, claim and finish of so many tasks.
    Steps(usize, usize),
    /// The same with plain commands.
    FloorSteps(usize, usize),
    /// Puts items into a plain queue and gets them, so many at once.
    Queue(usize, usize),
    /// The same with plain commands.
    FloorQueue(usize, usize),
    /// Takes and releases a lock, in turn with a plain round trip.
    Lock(usize),
    /// Hands a lock over among waiters, and an item from one connection to another.
    LockHandOver(usize),
}

impl Role {
    /// The role that [`Site`](crate::Site) has passed to this process.
    pub fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json).context("this is no role of a benchmark")
    }

    /// Plays it to its end. It blocks.
    pub fn play(self, config: &Config) -> Result<()> {
        let stage = Stage::enter();
        match self {
            Self::Producer(amount, results) => rates::produce(stage, config, amount, results),
            Self::Worker(shape) => rates::work(stage, config, shape),
            Self::Consumer(amount) => rates::consume(stage, config, amount),
            Self::FloorProducer(plain, amount) => {
                rates::floor_produce(stage, config, plain, amount)
            }
            Self::FloorWorker(plain, amount, batch, results) => {
                let worker = rates::FloorWorker {
                    plain,
                    amount,
                    batch,
                    results,
                };
                worker.work(stage, config)
            }
            Self::FloorConsumer(plain, amount) => {
                rates::floor_consume(stage, config, plain, amount)
            }
            Self::FloorEcho(plain) => latency::echo(stage, config, plain),
            Self::RoundTrip(rounds) => latency::round_trips(stage, config, rounds),
            Self::SingleSubmit(rounds) => latency::single_submits(stage, config, rounds),
            Self::ConcurrentSubmit(places, tasks) => {
                latency::concurrent_submits(stage, config, places, tasks)
            }
            Self::Load(amount, rate) => load::load(stage, config, amount, rate),
            Self::FloorLoad(amount, rate) => load::floor_load(stage, config, amount, rate),
            Self::Idlers(workers) => crowd::idle(stage, config, workers),
            Self::OneByOne(tasks) => crowd::one_by_one(stage, config, tasks),
            Self::Swarm(workers, tasks) => crowd::swarm(stage, config, workers, tasks),
            Self::FloorSwarm(workers, tasks) => crowd::floor_swarm(stage, config, workers, tasks),
            Self::Steps(rounds, batch) => steps::steps(stage, config, rounds, batch),
            Self::FloorSteps(rounds, batch) => steps::floor_steps(stage, config, rounds, batch),
            Self::Queue(items, batch) => queues::put_and_get(stage, config, items, batch),
            Self::FloorQueue(items, batch) => queues::push_and_pop(stage, config, items, batch),
            Self::Lock(rounds) => locks::uncontended(stage, config, rounds),
            Self::LockHandOver(rounds) => locks::contended(stage, config, rounds),
        }
    }
}

/// The streams to the run.
pub(crate) struct Stage(mpsc::Receiver<()>);

impl Stage {
    /// Listens to the run from a thread, which ends the process with it.
    fn enter() -> Self {
        let (sender, word) = mpsc::channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                if line.is_err() || sender.send(()).is_err() {
                    break;
                }
            }
            // An idle worker has nothing else to learn it by.
            #[expect(clippy::disallowed_methods, reason = "the run is gone")]
            std::process::exit(1);
        });
        Self(word)
    }

    /// Says that it is ready, and waits for the word.
    pub(crate) fn ready(self) -> Result<Clock> {
        println!("ready");
        std::io::stdout().flush()?;
        self.0.recv().context("the run is gone")?;
        Ok(Clock {
            start: Instant::now(),
            cpu: info::own_cpu(),
            answer: Answer::default(),
        })
    }
}

/// What a role tells when it is done.
pub(crate) struct Clock {
    start: Instant,
    cpu: f64,
    answer: Answer,
}

impl Clock {
    /// Takes the time; what comes later is not measured.
    pub(crate) fn stop(&mut self) {
        self.answer.seconds = self.start.elapsed().as_secs_f64();
        self.answer.cpu = info::own_cpu() - self.cpu;
        self.answer.memory = info::own_memory();
    }

    /// Adds single times in µs.
    pub(crate) fn samples(&mut self, of: &str, samples: Vec<f64>) {
        self.answer.samples.insert(of.to_owned(), samples);
    }

    /// Answers.
    pub(crate) fn done(mut self) -> Result<()> {
        if self.answer.seconds == 0.0 {
            self.stop();
        }
        let answer = serde_json::to_string(&self.answer)?;
        println!("{answer}");
        Ok(std::io::stdout().flush()?)
    }
}

/// µs since then.
pub(crate) fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

/// The runtime of a program that works on two processors.
pub(crate) fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

/// The runtime of a program that does one thing at a time.
pub(crate) fn single_runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}
