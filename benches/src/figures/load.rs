//! Latency and throughput over load, from little to more than can be done.

use anyhow::Result;

use super::rates::{Samples, Who, end_to_end, worker_of};
use super::{Options, SAME};
use crate::figure::{Figure, Section};
use crate::floor::Plain;
use crate::plot::{Axis, Curve, Plot};
use crate::role::{Amount, Role};
use crate::site::Site;
use crate::stats::{median, percentile};

/// Parts of what end to end can do, in percent.
const LOADS: [u32; 7] = [5, 10, 25, 50, 75, 90, 110];
/// How long each load lasts, in s.
const LASTS: f64 = 1.0;

/// One load, as it was met.
#[derive(Clone, Copy, Default)]
struct Point {
    rate: f64,
    p50: f64,
    p99: f64,
}

pub(super) async fn all(site: &Site, options: &Options) -> Result<Section> {
    let most = capacity(site, options).await?;
    let note = format!(
        "Tasks of {} B at a given rate, what is due within a ms submitted together, {LASTS} s a run, medians of {} runs; \
         latency from when a task is due to its completion in hand, also where the producer is late. 100 % are {most:.0} \
         tasks/s, pmq's own end to end. {SAME}, at the same rate.",
        options.size, options.runs
    );
    let mut section = Section::new("Over load", &note);
    let mut latency: Vec<Curve> = ["p50", "p50, floor", "p99", "p99, floor"]
        .map(Curve::new)
        .into();
    let mut throughput: Vec<Curve> = ["pmq", "floor"].map(Curve::new).into();
    for load in LOADS {
        let rate = most * f64::from(load) / 100.0;
        let [pmq, floor] = measure(site, options, rate).await?;
        for (name, unit, pmq, floor) in [
            ("p50_us", "µs, p50", pmq.p50, floor.p50),
            ("p99_us", "µs, p99", pmq.p99, floor.p99),
            ("rate", "tasks/s", pmq.rate, floor.rate),
        ] {
            let name = format!("load_{load}_{name}");
            section.push(Figure::new(name, unit, pmq).floor(floor));
        }
        let points = [pmq.p50, floor.p50, pmq.p99, floor.p99];
        for (curve, point) in latency.iter_mut().zip(points) {
            curve.points.push((rate, point));
        }
        for (curve, point) in throughput.iter_mut().zip([pmq.rate, floor.rate]) {
            curve.points.push((rate, point));
        }
    }
    let plot = |file, title, label, curves| Plot {
        file,
        title,
        x: Axis {
            label: "tasks/s that are due",
            logarithmic: false,
        },
        y: Axis {
            label,
            logarithmic: file == "latency",
        },
        curves,
    };
    section.plots = vec![
        plot("latency", "Latency over load", "µs", latency),
        plot(
            "throughput",
            "Throughput over load",
            "tasks/s that end",
            throughput,
        ),
    ];
    Ok(section)
}

async fn capacity(site: &Site, options: &Options) -> Result<f64> {
    let amount = Amount {
        tasks: options.tasks,
        size: options.size,
    };
    let mut samples = Samples::default();
    for _ in 0..options.runs {
        end_to_end(site, Who::Pmq, amount, &mut samples).await?;
    }
    Ok(samples.median("end_to_end"))
}

async fn measure(site: &Site, options: &Options, rate: f64) -> Result<[Point; 2]> {
    let amount = Amount {
        tasks: ((rate * LASTS) as usize).max(1),
        size: options.size,
    };
    let mut points: [Vec<Point>; 2] = Default::default();
    for _ in 0..options.runs {
        for (who, points) in [Who::Pmq, Who::Plain(Plain::Same)]
            .into_iter()
            .zip(&mut points)
        {
            who.prepare(site).await?;
            let role = match who {
                Who::Pmq => Role::Load(amount, rate),
                Who::Plain(_) => Role::FloorLoad(amount, rate),
            };
            let worker = who.worker(amount, worker_of(amount));
            let mut worker = site.start(&worker).await?;
            worker.go().await?;
            let mut answer = site.perform_one(&role).await?;
            worker.answer().await?;
            let samples = answer.samples("latency");
            points.push(Point {
                rate: amount.tasks as f64 / answer.seconds,
                p50: median(samples.clone()),
                p99: percentile(samples, 99.0),
            });
        }
    }
    Ok(points.map(|points| {
        let of = |field: fn(&Point) -> f64| median(points.iter().map(field).collect());
        Point {
            rate: of(|p| p.rate),
            p50: of(|p| p.p50),
            p99: of(|p| p.p99),
        }
    }))
}
