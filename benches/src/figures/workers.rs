//! What workers cost: woken, idle, over time; and those whose tasks run in Python.

use std::time::Duration;

use anyhow::Result;

use super::rates::{self, Samples, Who, worker_of};
use super::{Options, SIZE};
use crate::figure::{Figure, Section};
use crate::floor::Results;
use crate::info::Counters;
use crate::role::{Amount, Role, WorkerShape};
use crate::site::Site;
use crate::stats::median;

/// Workers that idle, and shards of their queue.
const IDLE: [(usize, u16); 4] = [(1, 1), (100, 1), (1000, 1), (1000, 12)];
/// Tasks that wake one each.
const WAKES: usize = 500;
/// How long an idle worker is watched.
const WATCH: Duration = Duration::from_secs(10);

pub(super) async fn wake(site: &Site, options: &Options) -> Result<Section> {
    let note = format!(
        "{WAKES} tasks one by one, each to N idle workers, which block on connections of their own: calls of functions and \
         blocking pops that the workers make a task, without the one of submit; from submit until its completion is posted. \
         An idle worker process is watched for {} s.",
        WATCH.as_secs()
    );
    let mut section = Section::new("Wake-up", &note);
    for (workers, shards) in IDLE {
        section
            .figures
            .extend(wake_among(site, options, (workers, shards)).await?);
    }
    section.push(idle(site).await?);
    Ok(section)
}

async fn wake_among(
    site: &Site,
    options: &Options,
    (workers, shards): (usize, u16),
) -> Result<[Figure; 3]> {
    let (mut calls, mut waits, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.runs {
        match shards {
            1 => drop(site.seasoned_queue().await?),
            more => site.queue_of(more).await?,
        }
        let mut idlers = site.start(&Role::Idlers(workers)).await?;
        let mut submitter = site.start(&Role::OneByOne(WAKES)).await?;
        idlers.go().await?;
        let mut connection = site.connect()?;
        let before = Counters::read(&mut connection)?;
        submitter.go().await?;
        let mut answer = submitter.answer().await?;
        let counted = Counters::read(&mut connection)?.since(before);
        idlers.kill().await?;
        let tasks = WAKES as f64;
        calls.push((counted.calls - tasks) / tasks);
        waits.push(counted.waits / tasks);
        times.extend(answer.samples("pmq"));
    }
    let (calls, waits) = (median(calls), median(waits));
    let of = match shards {
        1 => format!("wake_{workers}"),
        more => format!("wake_{workers}_on_{more}_shards"),
    };
    Ok([
        Figure::new(format!("{of}_calls"), "calls a task", calls + waits),
        Figure::new(format!("{of}_functions"), "of them functions", calls),
        Figure::new(format!("{of}_us"), "µs, p50", median(times)),
    ])
}

async fn idle(site: &Site) -> Result<Figure> {
    site.seasoned_queue().await?;
    let forever = Amount {
        tasks: usize::MAX,
        size: SIZE,
    };
    let mut worker = site.start(&Role::Worker(worker_of(forever))).await?;
    worker.go().await?;
    let mut connection = site.connect()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = Counters::read(&mut connection)?;
    tokio::time::sleep(WATCH).await;
    let counted = Counters::read(&mut connection)?.since(before);
    worker.kill().await?;
    let calls = (counted.calls + counted.waits) / WATCH.as_secs_f64();
    Ok(Figure::new(
        "idle_calls_per_s",
        "calls/s of an idle worker",
        calls,
    ))
}

pub(super) async fn growth(site: &Site, options: &Options) -> Result<Section> {
    let mut section = Section::new(
        "Growth",
        "Resident memory of a worker process after five times as many tasks, less that after one time.",
    );
    let mut sizes = Vec::new();
    for times in [1, 5] {
        let amount = Amount {
            tasks: options.tasks * times,
            size: options.size,
        };
        let mut samples = Vec::new();
        for _ in 0..options.runs {
            Who::Pmq.prepare(site).await?;
            let roles = [
                Role::Worker(worker_of(amount)),
                Role::Consumer(amount),
                Role::Producer(amount, Results::Posted),
            ];
            let answers = site.perform(&roles).await?;
            samples.extend(answers.first().map(|worker| worker.memory));
        }
        sizes.push(median(samples));
    }
    let (first, last) = (sizes[0], sizes[1]);
    let grown = (last - first) / (4 * options.tasks) as f64;
    section.push(Figure::new(
        "worker_memory",
        "MiB",
        first / f64::from(1 << 20),
    ));
    section.push(Figure::new("worker_growth", "B a task", grown));
    Ok(section)
}

pub(super) async fn runner(site: &Site, options: &Options) -> Result<Section> {
    let mut section = Section::new(
        "Runner",
        "Drain by one worker whose tasks run in one Python process, which reads and answers as many lines as there are.",
    );
    let amount = Amount {
        tasks: options.few(),
        size: 1,
    };
    let mut samples = Samples::default();
    for _ in 0..options.runs {
        Who::Pmq.prepare(site).await?;
        rates::submit(site, Who::Pmq, amount, Results::Posted).await?;
        let shape = WorkerShape {
            runner: true,
            ..worker_of(amount)
        };
        let drained = rates::drain(site, Who::Pmq, amount, shape).await?;
        samples.add("runner", amount.tasks as f64 / drained.seconds);
    }
    section.push(Figure::new("runner", "tasks/s", samples.median("runner")));
    Ok(section)
}
