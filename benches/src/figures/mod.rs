//! What is measured, and how: medians of several runs, pmq and its floors in turn on one server.

mod backlog;
mod commands;
mod load;
mod objects;
mod rates;
mod round_trip;
mod shapes;
mod sweeps;
mod workers;

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use crate::figure::{Report, Section};
use crate::progress::Progress;
use crate::site::Site;

/// What every table's floor is.
const SAME: &str = "floor: the same key operations as plain pipelined commands from a plain synchronous client, no pmq, no \
Lua; records, tokens and completion push included";
/// Slots of the worker, unless they are what is measured.
const SLOTS: usize = 512;
/// Bytes of a body, unless set.
pub const SIZE: usize = 100;

/// Figures that are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Group {
    /// `submit`, `drain`, `end_to_end`, `bytes_per_task`, commands and processor time a task
    #[value(aliases = ["submit", "drain", "end_to_end", "bytes_per_task"])]
    Rates,
    /// One task through an idle worker
    #[value(alias = "round_trip_us")]
    RoundTrip,
    /// Single submits, one after another and 64 at once
    SingleSubmit,
    /// Drain with results posted, kept by id, and not kept
    Results,
    /// Latency and throughput over load
    Load,
    /// Rates over payload size
    Payload,
    /// Drain over the worker's slots
    Slots,
    /// Drain over the number of workers
    Workers,
    /// Calls over the queue's backlog
    Backlog,
    /// The server time of hard calls
    Shapes,
    /// What one task costs where many workers idle, and what idling costs
    Wake,
    /// Whether a worker grows
    Growth,
    /// Plain queues and locks
    Objects,
    /// `pmq map`, beside xargs and GNU parallel; start-up and size of the program
    Commands,
    /// Tasks in a Python runner
    Runner,
}

impl Group {
    /// Those of a short look.
    const USUAL: [Self; 3] = [Self::Rates, Self::RoundTrip, Self::SingleSubmit];

    /// Those that are measured: the named ones, else all or the usual ones.
    #[must_use]
    pub fn chosen(only: &[Self], full: bool) -> Vec<Self> {
        match (only, full) {
            ([], true) => Self::value_variants().to_vec(),
            ([], false) => Self::USUAL.to_vec(),
            (only, _) => {
                let mut only = only.to_vec();
                only.sort_unstable();
                only.dedup();
                only
            }
        }
    }
}

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// Tasks a run; sweeps take a fifth of them.
    pub tasks: usize,
    /// Runs a figure, of which it is the median.
    pub runs: usize,
    /// Bytes of a body.
    pub size: usize,
    /// The largest backlog.
    pub backlog: usize,
    /// What is measured.
    pub groups: Vec<Group>,
    /// The program `pmq`, for figures of commands.
    pub program: Option<PathBuf>,
}

impl Options {
    /// Tasks of one point of a sweep.
    fn few(&self) -> usize {
        (self.tasks / 5).max(1)
    }
}

impl Site {
    /// Measures. The caller calls [`Site::leave`] afterwards, also where this fails or is dropped.
    pub async fn measure(&self, options: &Options) -> Result<Report> {
        let progress = Progress::new(options.groups.len());
        let mut report = Report::default();
        for group in &options.groups {
            let name = group.to_possible_value();
            progress.say(name.map_or_else(String::new, |name| name.get_name().to_owned()));
            report
                .sections
                .extend(self.measure_group(*group, options).await?);
            progress.step();
        }
        Ok(report)
    }

    async fn measure_group(&self, group: Group, options: &Options) -> Result<Vec<Section>> {
        let section = match group {
            Group::Rates => rates::all(self, options).await,
            Group::RoundTrip => round_trip::all(self, options).await,
            Group::SingleSubmit => round_trip::single_submits(self, options).await,
            Group::Results => sweeps::results(self, options).await,
            Group::Load => load::all(self, options).await,
            Group::Payload => sweeps::payload(self, options).await,
            Group::Slots => sweeps::slots(self, options).await,
            Group::Workers => sweeps::workers(self, options).await,
            Group::Backlog => backlog::all(self, options).await,
            Group::Shapes => shapes::all(self, options).await,
            Group::Wake => workers::wake(self, options).await,
            Group::Growth => workers::growth(self, options).await,
            Group::Objects => objects::all(self, options).await,
            Group::Commands => return commands::all(self, options).await,
            Group::Runner => workers::runner(self, options).await,
        };
        Ok(vec![section?])
    }
}
