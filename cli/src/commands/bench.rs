//! `pmq bench`: how fast pmq is on this broker, each figure beside its floor.

use std::env;
use std::path::PathBuf;

use clap::Args;
use pmq_benches::figures::SIZE;
use pmq_benches::{Group, Options, Role, Site};

use crate::context::Context;
use crate::exit::Exit;
use crate::map::signals::StopSignals;
use crate::myself;
use crate::output::note;

const AFTER_HELP: &str = "\
Each figure stands beside its floor: the same key operations as plain pipelined commands from a plain client, in the same \
run on the same broker; `bare` is the least that plain commands can do. What is done meanwhile by others, on the broker or \
on this machine, is in the figures.

All keys are in a namespace of the run, and are deleted when it ends, also by Ctrl-C. A run with 100000 tasks needs some \
100 MB of memory in Redis.

Example:
  pmq bench --redis redis://redis.example --json | jq .drain_ratio";

/// Measure pmq on the broker, beside plain Redis commands
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Bench {
    /// Tasks a run; sweeps take a fifth of them
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = count(900_000))]
    tasks: u64,

    /// Runs a figure, of which it is the median
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count(100))]
    runs: u64,

    /// Bytes of a task's body
    #[arg(long, value_name = "BYTES", default_value_t = SIZE as u64, value_parser = count(1 << 20))]
    size: u64,

    /// The largest backlog, with --full
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = count(100_000_000))]
    backlog: u64,

    /// Measure these alone
    #[arg(long, value_name = "FIGURE", value_delimiter = ',')]
    only: Vec<Group>,

    /// Measure everything, which takes some minutes
    #[arg(long)]
    full: bool,

    /// Write plots into this directory, as SVG
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,

    /// What a process of the run does
    #[arg(long, hide = true)]
    role: Option<String>,
}

fn count(most: u64) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=most)
}

impl Bench {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        if let Some(role) = &self.role {
            let (role, config) = (Role::parse(role)?, context.config.clone());
            tokio::task::spawn_blocking(move || role.play(&config)).await??;
            return Ok(Exit::OK);
        }
        let mut signals = StopSignals::catch()?;
        let launch = |config: &_, role: &_| myself::on(config, &["bench", "--role", role]);
        let site = Site::open(context.config.clone(), Box::new(launch)).await?;
        let options = self.options();
        // Dropped, it kills its processes, which then leave no more keys.
        let measured = tokio::select! {
            report = site.measure(&options) => Some(report),
            () = signals.next() => None,
        };
        site.leave().await?;
        let Some(report) = measured else {
            return Ok(Exit::INTERRUPTED);
        };
        let (report, output) = (report?, context.output);
        if output.is_json() {
            output.json(&report.json())?;
        } else {
            output.raw(report.table().as_bytes())?;
        }
        if let Some(directory) = &self.plot {
            for file in report.plot(directory)? {
                note(&format!("wrote {file}"));
            }
        }
        Ok(Exit::OK)
    }

    fn options(&self) -> Options {
        Options {
            tasks: self.tasks as usize,
            runs: self.runs as usize,
            size: self.size as usize,
            backlog: self.backlog as usize,
            groups: Group::chosen(&self.only, self.full),
            program: env::current_exe().ok(),
        }
    }
}
