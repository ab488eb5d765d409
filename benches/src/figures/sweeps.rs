//! The rates again, over what they depend on.

use anyhow::Result;

use super::rates::{self, Samples, Who, worker_of};
use super::{Options, SAME, SIZE};
use crate::figure::{Figure, Section};
use crate::floor::{Plain, Results};
use crate::plot::{Axis, Curve, Plot};
use crate::role::{Amount, Role, WorkerShape};
use crate::site::Site;
use crate::stats::median;

const SIZES: [usize; 4] = [100, 1 << 10, 10 << 10, 100 << 10];
const SLOTS: [usize; 6] = [1, 4, 16, 64, 256, 1024];
const WORKERS: [usize; 4] = [1, 10, 100, 1000];
/// Bytes of all bodies of a run.
const VOLUME: usize = 64 << 20;
/// Tasks a slot, as a worker with one slot is slow.
const TASKS_PER_SLOT: usize = 2000;
const FLOORS: [Who; 2] = [Who::Pmq, Who::Plain(Plain::Same)];

pub(super) async fn payload(site: &Site, options: &Options) -> Result<Section> {
    let names = ["submit", "drain", "end_to_end"];
    let note = format!(
        "Up to {} tasks and {} MiB a run, medians of {} runs; {SAME}.",
        options.few(),
        VOLUME >> 20,
        options.runs
    );
    let mut section = Section::new("Over payload size", &note);
    let mut curves: Vec<Curve> = names
        .iter()
        .flat_map(|name| [Curve::new(name), Curve::new(&format!("{name}, floor"))])
        .collect();
    for size in SIZES {
        let tasks = options.few().min(VOLUME / size);
        let amount = Amount { tasks, size };
        let mut samples: [Samples; 2] = Default::default();
        for _ in 0..options.runs {
            for (who, samples) in FLOORS.into_iter().zip(&mut samples) {
                who.prepare(site).await?;
                let submitted = rates::submit(site, who, amount, Results::Posted).await?;
                samples.add("submit", tasks as f64 / submitted.seconds);
                let drained = rates::drain(site, who, amount, worker_of(amount)).await?;
                samples.add("drain", tasks as f64 / drained.seconds);
                rates::end_to_end(site, who, amount, samples).await?;
            }
        }
        for (i, name) in names.iter().enumerate() {
            let [pmq, floor] = samples.each_ref().map(|samples| samples.median(name));
            let figure = Figure::new(format!("{name}_{size}_bytes"), "tasks/s", pmq);
            section.push(figure.floor(floor));
            curves[2 * i].points.push((size as f64, pmq));
            curves[2 * i + 1].points.push((size as f64, floor));
        }
    }
    section.plots.push(Plot {
        file: "payload",
        title: "Throughput over payload size",
        x: Axis {
            label: "bytes of a body",
            logarithmic: true,
        },
        y: Axis {
            label: "tasks/s",
            logarithmic: true,
        },
        curves,
    });
    Ok(section)
}

/// The rate at which one worker drains so many tasks.
async fn drain_rate(site: &Site, who: Who, shape: WorkerShape) -> Result<f64> {
    let amount = Amount {
        tasks: shape.tasks,
        size: SIZE,
    };
    who.prepare(site).await?;
    rates::submit(site, who, amount, shape.results).await?;
    let drained = rates::drain(site, who, amount, shape).await?;
    Ok(shape.tasks as f64 / drained.seconds)
}

/// The medians of pmq and floor, in turn.
async fn drain_figure(
    site: &Site,
    options: &Options,
    name: String,
    shape: WorkerShape,
) -> Result<Figure> {
    let mut samples: [Vec<f64>; 2] = Default::default();
    for _ in 0..options.runs {
        for (who, samples) in FLOORS.into_iter().zip(&mut samples) {
            samples.push(drain_rate(site, who, shape).await?);
        }
    }
    let [pmq, floor] = samples.map(median);
    Ok(Figure::new(name, "tasks/s", pmq).floor(floor))
}

fn few(options: &Options) -> Amount {
    Amount {
        tasks: options.few(),
        size: SIZE,
    }
}

pub(super) async fn results(site: &Site, options: &Options) -> Result<Section> {
    let note = format!(
        "Drain. posted: completions to a completion queue, verdicts by id; kept: completions by id for the retention time, \
         no completion queue; discarded: verdicts alone. {SAME}, kept likewise."
    );
    let mut section = Section::new("Over what becomes of results", &note);
    let all = [
        ("posted", Results::Posted),
        ("kept", Results::Kept),
        ("discarded", Results::Discarded),
    ];
    for (name, results) in all {
        let shape = WorkerShape {
            results,
            ..worker_of(few(options))
        };
        let name = format!("drain_results_{name}");
        section.push(drain_figure(site, options, name, shape).await?);
    }
    Ok(section)
}

pub(super) async fn slots(site: &Site, options: &Options) -> Result<Section> {
    let note = format!("One worker; {SAME}, as many tasks at once as it has slots, at most 256.");
    let mut section = Section::new("Over slots", &note);
    for slots in SLOTS {
        let shape = WorkerShape {
            slots,
            tasks: options.few().min(TASKS_PER_SLOT * slots),
            ..worker_of(few(options))
        };
        let name = format!("drain_{slots}_slots");
        section.push(drain_figure(site, options, name, shape).await?);
    }
    Ok(section)
}

pub(super) async fn workers(site: &Site, options: &Options) -> Result<Section> {
    let note = format!(
        "Workers in one process, each with a connection and a lease of its own, which claim and end 16 tasks at a time; \
         {SAME}, as many connections in two threads."
    );
    let mut section = Section::new("Over workers", &note);
    let amount = few(options);
    for workers in WORKERS {
        let mut samples: [Vec<f64>; 2] = Default::default();
        for _ in 0..options.runs {
            let roles = [
                Role::Swarm(workers, amount.tasks),
                Role::FloorSwarm(workers, amount.tasks),
            ];
            for ((who, role), samples) in FLOORS.into_iter().zip(roles).zip(&mut samples) {
                who.prepare(site).await?;
                let producer = who.producer(amount, Results::Posted);
                site.perform_one(&producer).await?;
                let drained = site.perform_one(&role).await?;
                samples.push(amount.tasks as f64 / drained.seconds);
            }
        }
        let [pmq, floor] = samples.map(median);
        let figure = Figure::new(format!("drain_{workers}_workers"), "tasks/s", pmq);
        section.push(figure.floor(floor));
    }
    Ok(section)
}
