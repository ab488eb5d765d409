//! `pmq worker`: claims tasks and runs them.

use std::ffi::OsString;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use pmq_broker::{Broker, Name};
use pmq_worker::child::Program;
use pmq_worker::{Commands, Health, Options, Report, Worker, WorkerError, runner};

use super::demo;
use crate::config_file::{ConfigFile, RunnerTable};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::map::signals::StopSignals;
use crate::plural::counted;
use crate::{duration, output};

const AFTER_HELP: &str = "\
Commands that tasks bring along are run only with --allow-commands, or on the local broker, which only you can reach. \
With an authkey (--authkey-file) it runs only tasks that are signed with it, and signs what they come to. \
The configuration file (--config, $PMQ_CONFIG, or ~/.config/pmq/pmq.toml) allows single commands by name, and names \
programs that run handlers, in any language; docs/configuration.md has all its keys:

  [tasks.thumbnail]
  argv = [\"convert\", \"{input:path}\", \"-resize\", \"{width:int}\", \"{output:path}\"]

  [runners.python]
  argv = [\"python3\", \"/opt/app/square.py\"]
  tasks = [\"square\", \"cube\"]

On SIGTERM, Ctrl-C, or a hangup of its terminal (unless nohup(1) has it ignored) it claims no more, lets running tasks \
end within the grace, hands back the rest, and exits with 0; a second signal hurries.

Examples:
  pmq worker -q thumbnails -q default -c 8
  pmq worker -q default --burst --allow-commands";

/// A health file older than this tells of a worker whose claim loop does not turn.
const HEALTHY: Duration = Duration::from_secs(30);

/// Claim tasks and run them
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct WorkerCommand {
    /// A queue to serve; given more than once, they are asked in this order [default: default]
    #[arg(short, long = "queue", value_name = "Q")]
    queues: Vec<Name>,

    /// How many tasks run at once [default: the number of CPUs]
    #[arg(short = 'c', long, value_name = "N", value_parser = slots)]
    slots: Option<usize>,

    /// End as soon as nothing is ready and all slots are free
    #[arg(long)]
    burst: bool,

    /// How long this worker may be silent before others take its tasks over, at least 1s [default: 15s]
    #[arg(long, value_name = "D", value_parser = duration::parse_lease)]
    lease: Option<Duration>,

    /// Where completions go of tasks that name no completion queue
    #[arg(long, value_name = "NAME")]
    completions: Option<Name>,

    /// Run any command that a task brings along. Without an authkey that is anything that anybody wants who can write to
    /// this Redis
    #[arg(long)]
    allow_commands: bool,

    /// The worker's name in completions and in status [default: host and process id]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// How long running tasks may go on after a signal to stop [default: 25s]
    #[arg(long, value_name = "D", value_parser = duration::parse)]
    grace: Option<Duration>,

    /// How long a command has between SIGTERM and SIGKILL
    #[arg(long, value_name = "D", value_parser = duration::parse, default_value = "5s")]
    kill_after: Duration,

    /// How much of a command's output is kept, in bytes a stream: its first half and its last
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    capture: usize,

    /// A file to touch as the claim loop turns
    #[arg(long, value_name = "FILE")]
    health_file: Option<PathBuf>,

    /// An address to answer HTTP health checks on
    #[arg(long, value_name = "ADDR")]
    health_addr: Option<SocketAddr>,

    /// Only look whether the health file is fresh; exit 1 if not
    #[arg(long, requires = "health_file")]
    check: bool,

    /// Say nothing but what goes wrong
    #[arg(long)]
    quiet: bool,

    /// Know the demo's task
    #[arg(long, hide = true)]
    demo: bool,
}

fn slots(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=65_536).contains(&n) => Ok(n),
        _ => Err("a worker has 1 to 65536 slots".to_owned()),
    }
}

impl WorkerCommand {
    /// Works until a signal, or in burst mode until nothing is ready.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        if let (true, Some(file)) = (self.check, &self.health_file) {
            return check(file);
        }
        let broker = context.connect().await?;
        let quiet = self.quiet || self.demo;
        let worker = self.prepare(broker, &context.file)?;
        if !quiet {
            announce(&worker);
        }
        let catch = || StopSignals::catch().context("could not catch signals");
        let (mut first, mut second) = (catch()?, catch()?);
        let hurry = async move {
            second.next().await;
            second.next().await;
        };
        let report = worker
            .run_until(async move { first.next().await }, hurry)
            .await
            .map_err(|error| match error {
                // The broker's own errors have hints and exit codes.
                WorkerError::Broker(error) => anyhow::Error::from(error),
                error => error.into(),
            })?;
        if !quiet {
            output::note(&summary(report));
        }
        Ok(Exit::OK)
    }

    fn prepare(self, broker: Broker, file: &ConfigFile) -> anyhow::Result<Worker> {
        let allowed = self.allow_commands || file.worker.allow_commands || broker.is_local();
        let is_demo = self.demo;
        let mut worker = Worker::new(broker);
        worker.options = self.options(file, allowed);
        if is_demo {
            demo::teach(&mut worker);
        }
        for (name, table) in &file.tasks {
            let template = table.argv.clone();
            worker.handle_with_command(name, move |body| {
                let argv = template
                    .expand(body)
                    .map_err(|problem| problem.to_string())?;
                Ok(argv.into_iter().map(OsString::from).collect())
            });
        }
        for table in file.runners.values() {
            worker.handle_with_runner(&table.tasks, runner_config(table))?;
        }
        Ok(worker)
    }

    /// Flags first, then the configuration file, then the defaults.
    fn options(self, file: &ConfigFile, allowed: bool) -> Options {
        let defaults = Options::default();
        let file = &file.worker;
        let queues = [self.queues, file.queues.clone()]
            .into_iter()
            .find(|queues| !queues.is_empty());
        Options {
            name: self.name.unwrap_or(defaults.name),
            queues: queues.unwrap_or(defaults.queues),
            slots: self.slots.or(file.slots).unwrap_or(defaults.slots),
            burst: self.burst,
            lease: self.lease.or(file.lease).unwrap_or(defaults.lease),
            completions: self.completions.or_else(|| file.completions.clone()),
            grace: self.grace.or(file.grace).unwrap_or(defaults.grace),
            commands: Commands {
                allowed,
                grace: self.kill_after,
                capture: self.capture,
            },
            health: Health {
                file: self.health_file,
                addr: self.health_addr,
            },
            ..defaults
        }
    }
}

fn runner_config(table: &RunnerTable) -> runner::Config {
    let mut config = runner::Config::new(Program::new(table.argv.iter().map(OsString::from)));
    config.depth = table.depth;
    config
}

fn announce(worker: &Worker) {
    let options = &worker.options;
    let queues: Vec<&str> = options.queues.iter().map(Name::as_str).collect();
    let commands = if options.commands.allowed {
        ", runs commands"
    } else {
        ""
    };
    output::note(&format!(
        "worker {} serves {} with {}{commands}",
        options.name,
        queues.join(", "),
        counted(options.slots as u64, "slot")
    ));
}

fn summary(report: Report) -> String {
    let Report {
        ok,
        failed,
        cancelled,
        lost,
    } = report;
    let mut text = format!("worker stopped: {ok} ok, {failed} failed");
    for (count, what) in [(cancelled, "cancelled"), (lost, "lost to other workers")] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    text
}

fn check(file: &Path) -> anyhow::Result<Exit> {
    let touched = std::fs::metadata(file).and_then(|data| data.modified());
    let age = touched
        .ok()
        .and_then(|at| SystemTime::now().duration_since(at).ok());
    match age {
        Some(age) if age <= HEALTHY => Ok(Exit::OK),
        Some(age) => Err(Failure::new(
            Exit::FAILED,
            format!("the claim loop has not turned for {}", duration::show(age)),
        )
        .into()),
        None => Err(Failure::new(
            Exit::FAILED,
            format!("no worker touches {}", file.display()),
        )
        .into()),
    }
}
