//! Submit, drain and end to end, and what a task costs: memory, commands, processor time.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{Options, SAME, SLOTS};
use crate::crew::Answer;
use crate::figure::{Figure, Section};
use crate::floor::{Keys, Plain, Results};
use crate::info::{self, Counters};
use crate::role::{Amount, BATCH, BULK, Role, WorkerShape};
use crate::site::Site;
use crate::stats::median;

/// What the figures are, and in which unit.
const FIGURES: [(&str, &str); 9] = [
    ("submit", "tasks/s"),
    ("drain", "tasks/s"),
    ("end_to_end", "tasks/s"),
    ("bytes_per_task", "B of Redis a queued task"),
    (
        "commands_per_task",
        "commands a task, those inside of functions too (drain)",
    ),
    ("calls_per_task", "calls a task from clients (drain)"),
    ("server_cpu_us", "µs of the server's CPU a task (drain)"),
    ("worker_cpu_us", "µs of the worker's CPU a task (drain)"),
    (
        "producer_cpu_us",
        "µs of the producer's CPU a task (submit)",
    ),
];

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Pmq,
    Plain(Plain),
}

impl Who {
    pub(super) const ALL: [Self; 3] = [
        Self::Pmq,
        Self::Plain(Plain::Same),
        Self::Plain(Plain::Bare),
    ];

    pub(super) fn producer(self, amount: Amount, results: Results) -> Role {
        match self {
            Self::Pmq => Role::Producer(amount, results),
            Self::Plain(plain) => Role::FloorProducer(plain, amount),
        }
    }

    pub(super) fn worker(self, amount: Amount, shape: WorkerShape) -> Role {
        match self {
            Self::Pmq => Role::Worker(shape),
            Self::Plain(plain) => {
                // As many at once as a worker of so many slots holds, and no more than the producer sends.
                let batch = shape.slots.min(BATCH);
                Role::FloorWorker(plain, amount, batch, shape.results)
            }
        }
    }

    pub(super) fn consumer(self, amount: Amount) -> Role {
        match self {
            Self::Pmq => Role::Consumer(amount),
            Self::Plain(plain) => Role::FloorConsumer(plain, amount),
        }
    }

    /// Empties the keys and brings them to the state of daily use.
    pub(super) async fn prepare(self, site: &Site) -> Result<()> {
        if self == Self::Pmq {
            return site.seasoned_queue().await.map(drop);
        }
        site.clear().await?;
        let (mut connection, keys) = (site.connect()?, Keys::new(&site.config));
        for bucket in ["results", "old"] {
            redis::cmd("HSET")
                .arg(keys.part(bucket))
                .arg(&["an earlier task", "its record"])
                .exec(&mut connection)?;
        }
        Ok(())
    }
}

/// Samples of figures by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(BTreeMap<&'static str, Vec<f64>>);

impl Samples {
    pub(super) fn add(&mut self, name: &'static str, sample: f64) {
        self.0.entry(name).or_default().push(sample);
    }

    pub(super) fn median(&self, name: &str) -> f64 {
        median(self.0.get(name).cloned().unwrap_or_default())
    }
}

/// A worker that runs so many tasks.
pub(super) fn worker_of(amount: Amount) -> WorkerShape {
    WorkerShape {
        tasks: amount.tasks,
        slots: SLOTS,
        paused: false,
        results: Results::Posted,
        runner: false,
    }
}

pub(super) async fn all(site: &Site, options: &Options) -> Result<Section> {
    let amount = Amount {
        tasks: options.tasks,
        size: options.size,
    };
    let (mut samples, mut blind): ([Samples; 3], Vec<f64>) = Default::default();
    for _ in 0..options.runs {
        for (who, samples) in Who::ALL.into_iter().zip(&mut samples) {
            stepwise(site, who, amount, samples).await?;
            end_to_end(site, who, amount, samples).await?;
        }
        let who = Who::Plain(Plain::Blind);
        who.prepare(site).await?;
        let submitted = submit(site, who, amount, Results::Posted).await?;
        blind.push(amount.tasks as f64 / submitted.seconds);
    }
    let note = format!(
        "{} tasks of {} B, medians of {} runs, in turn; one producer, one worker of {SLOTS} slots, completions posted to a \
         queue, verdicts kept by id. {SAME}, batches of {BATCH}; pmq's producer hands over {BULK} at once. submit_blind: the floor without its look \
         whether a task is known, so that sending a call again doubles its tasks. bare: HSET, RPUSH; pop, HMGET, HDEL, \
         RPUSH; pop.",
        options.tasks, options.size, options.runs
    );
    let mut section = Section::new("Rates", &note);
    let [pmq, floor, bare] = samples;
    for (name, unit) in FIGURES {
        let figure = Figure::new(name, unit, pmq.median(name)).floor(floor.median(name));
        section.push(figure.bare(bare.median(name)));
        if name == "submit" {
            let figure = Figure::new("submit_blind", unit, pmq.median(name));
            section.push(figure.floor(median(std::mem::take(&mut blind))));
        }
    }
    Ok(section)
}

/// Submits all, then drains all.
async fn stepwise(site: &Site, who: Who, amount: Amount, samples: &mut Samples) -> Result<()> {
    let (mut connection, tasks) = (site.connect()?, amount.tasks as f64);
    who.prepare(site).await?;
    let before = info::memory(&mut connection)?;
    let submitted = submit(site, who, amount, Results::Posted).await?;
    samples.add("submit", tasks / submitted.seconds);
    samples.add("producer_cpu_us", submitted.cpu * 1e6 / tasks);
    let bytes = info::memory(&mut connection)? - before;
    samples.add("bytes_per_task", bytes / tasks);

    let before = Counters::read(&mut connection)?;
    let drained = drain(site, who, amount, worker_of(amount)).await?;
    let counted = Counters::read(&mut connection)?.since(before);
    samples.add("drain", tasks / drained.seconds);
    samples.add("worker_cpu_us", drained.cpu * 1e6 / tasks);
    samples.add("server_cpu_us", counted.cpu * 1e6 / tasks);
    samples.add("commands_per_task", counted.commands / tasks);
    let calls = match who {
        Who::Pmq => counted.calls + counted.waits,
        Who::Plain(_) => counted.commands,
    };
    samples.add("calls_per_task", calls / tasks);
    Ok(())
}

/// Submits to a queue that nobody works on.
pub(super) async fn submit(
    site: &Site,
    who: Who,
    amount: Amount,
    results: Results,
) -> Result<Answer> {
    if who == Who::Pmq {
        site.queue().pause().await?;
    }
    site.perform_one(&who.producer(amount, results)).await
}

/// Has one worker drain what was submitted so.
pub(super) async fn drain(
    site: &Site,
    who: Who,
    amount: Amount,
    shape: WorkerShape,
) -> Result<Answer> {
    let shape = WorkerShape {
        paused: true,
        ..shape
    };
    site.perform_one(&who.worker(amount, shape)).await
}

/// Producer, worker and consumer at once.
pub(super) async fn end_to_end(
    site: &Site,
    who: Who,
    amount: Amount,
    samples: &mut Samples,
) -> Result<()> {
    who.prepare(site).await?;
    let roles = [
        who.consumer(amount),
        who.worker(amount, worker_of(amount)),
        who.producer(amount, Results::Posted),
    ];
    let answers = site.perform(&roles).await?;
    let consumer = answers.first().context("the consumer gave no answer")?;
    samples.add("end_to_end", amount.tasks as f64 / consumer.seconds);
    Ok(())
}
