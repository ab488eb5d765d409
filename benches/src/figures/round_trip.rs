//! One task at a time: through an idle worker, and into the queue.

use anyhow::Result;

use super::rates::{Who, worker_of};
use super::{Options, SAME};
use crate::figure::{Figure, Section};
use crate::floor::Plain;
use crate::role::{Amount, Role};
use crate::site::Site;
use crate::stats::{median, percentile};

/// Rounds of all runs together.
const ROUNDS: usize = 2000;
/// How many submit at once.
const PLACES: usize = 64;

/// Rounds of one run.
fn rounds(options: &Options) -> usize {
    (ROUNDS.min(options.tasks) / options.runs.max(1)).max(1)
}

pub(super) async fn all(site: &Site, options: &Options) -> Result<Section> {
    let (mut pmq, mut floor, mut ping) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.runs {
        Who::Plain(Plain::Same).prepare(site).await?;
        site.seasoned_queue().await?;
        let forever = Amount {
            tasks: usize::MAX,
            size: options.size,
        };
        let mut worker = site.start(&Role::Worker(worker_of(forever))).await?;
        let mut echo = site.start(&Role::FloorEcho(Plain::Same)).await?;
        worker.go().await?;
        echo.go().await?;
        let mut answer = site.perform_one(&Role::RoundTrip(rounds(options))).await?;
        worker.kill().await?;
        echo.kill().await?;
        pmq.extend(answer.samples("pmq"));
        floor.extend(answer.samples("floor"));
        ping.extend(answer.samples("ping"));
    }
    let note = format!(
        "{} rounds in {} runs, from submit to the completion in hand, with one idle worker process; floor: the same round \
         trips on as many sockets, in turn with it: submit's commands, BLPOP of a worker process, claim's and finish's \
         commands in a pipeline each, BLPOP of the client, take's commands; a PING goes to the server and back.",
        pmq.len(),
        options.runs
    );
    let mut section = Section::new("Round trip of one task", &note);
    let p99 = |samples: &Vec<f64>| percentile(samples.clone(), 99.0);
    section.push(Figure::new("round_trip_p99_us", "µs, p99", p99(&pmq)).floor(p99(&floor)));
    let p50 = Figure::new("round_trip_us", "µs, p50", median(pmq));
    section.figures.insert(0, p50.floor(median(floor)));
    section.push(Figure::new("ping_us", "µs, p50", median(ping)));
    Ok(section)
}

pub(super) async fn single_submits(site: &Site, options: &Options) -> Result<Section> {
    let (mut pmq, mut floor, mut ping) = (Vec::new(), Vec::new(), Vec::new());
    let mut own_ping = Vec::new();
    let (mut many, mut one) = (Vec::new(), Vec::new());
    let few = options.few();
    for _ in 0..options.runs {
        site.seasoned_queue().await?;
        let role = Role::SingleSubmit(rounds(options));
        let mut answer = site.perform_one(&role).await?;
        pmq.extend(answer.samples("pmq"));
        floor.extend(answer.samples("floor"));
        ping.extend(answer.samples("ping"));
        own_ping.extend(answer.samples("own ping"));
        for (places, tasks, samples) in [(PLACES, few, &mut many), (1, few / 10, &mut one)] {
            let tasks = (tasks / places).max(1) * places;
            let role = Role::ConcurrentSubmit(places, tasks);
            let answer = site.perform_one(&role).await?;
            samples.push(tasks as f64 / answer.seconds);
        }
    }
    let note = format!(
        "Single tasks, each with a `submit().await` of its own; {SAME}, for one task. In turn with it, and with PING, by pmq's own client and by the plain one."
    );
    let mut section = Section::new("Single submits", &note);
    let (pmq, own_ping) = (median(pmq), median(own_ping));
    section.push(Figure::new("submit_one_us", "µs, p50", pmq).floor(median(floor)));
    let trips = pmq / own_ping;
    section.push(Figure::new(
        "submit_one_round_trips",
        "times pmq's PING",
        trips,
    ));
    section.push(Figure::new("submit_ping_us", "µs, p50, PING", own_ping).floor(median(ping)));
    let (many, one) = (median(many), median(one));
    section.push(Figure::new(
        "submit_from_1",
        "tasks/s, one after another",
        one,
    ));
    section.push(Figure::new(
        "submit_from_64",
        "tasks/s, from 64 places at once",
        many,
    ));
    section.push(Figure::new(
        "submit_from_64_gain",
        "times the rate of one",
        many / one,
    ));
    Ok(section)
}
