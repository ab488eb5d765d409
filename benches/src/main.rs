//! pmq's performance on a server of its own, each figure beside its floor. `pmq bench` does the same on any broker.
//!
//!     cargo run --release -p pmq-benches                 the usual figures, as tables
//!     cargo run --release -p pmq-benches -- --json       the same as one object
//!     cargo run --release -p pmq-benches -- --full       all figures
//!     cargo run --release -p pmq-benches -- --only load  some of them

mod pool;
mod server;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use pmq_benches::{Group, Options, Report, Role, Site};
use pmq_broker::Config;
use server::Server;
use tokio::process::Command;

/// Measure pmq beside raw Redis, on a server of its own.
#[derive(Parser)]
struct Arguments {
    /// Tasks a run; sweeps take a fifth of them
    #[arg(long, default_value_t = 100_000)]
    tasks: usize,
    /// Runs a figure, of which it is the median
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Bytes of a task's body
    #[arg(long, default_value_t = pmq_benches::figures::SIZE)]
    size: usize,
    /// The largest backlog
    #[arg(long, default_value_t = 1_000_000)]
    backlog: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Measure these alone
    #[arg(long, value_delimiter = ',')]
    only: Vec<Group>,
    /// Measure everything
    #[arg(long)]
    full: bool,
    /// Write plots into this directory, as SVG
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Reach the server by TCP on this port of 127.0.0.1 instead of a unix socket
    #[arg(long, default_value_t = 0)]
    tcp: u16,
    /// Measure pools alone, beside Python's
    #[arg(long)]
    pool: bool,
    #[arg(long, hide = true)]
    role: Option<String>,
    #[arg(long, hide = true)]
    pool_map: Option<u64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(role) = &arguments.role {
        return Role::parse(role)?.play(&Config::from_env()?);
    }
    let runtime = tokio::runtime::Runtime::new()?;
    if let Some(tasks) = arguments.pool_map {
        return runtime.block_on(pool::map(tasks));
    }
    let server = Server::start(arguments.tcp)?;
    let report = if arguments.pool {
        let section = pool::section(&server.url(), arguments.tasks, arguments.runs)?;
        Report {
            sections: vec![section],
        }
    } else {
        runtime.block_on(measure(&server, &arguments))?
    };
    if arguments.json {
        println!("{}", report.json());
    } else {
        print!("{}", report.table());
    }
    if let Some(directory) = &arguments.plot {
        report.plot(directory)?;
    }
    Ok(())
}

async fn measure(server: &Server, arguments: &Arguments) -> Result<Report> {
    let site = Site::open(Config::url(server.url()), Box::new(launch)).await?;
    let options = Options {
        tasks: arguments.tasks,
        runs: arguments.runs,
        size: arguments.size,
        backlog: arguments.backlog,
        groups: Group::chosen(&arguments.only, arguments.full),
        program: program()?,
    };
    site.measure(&options).await
}

fn launch(config: &Config, role: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--role", role])
        .env("PMQ_REDIS_URL", config.url.as_deref().unwrap_or_default())
        .env("PMQ_NAMESPACE", config.namespace.as_str());
    Ok(command)
}

/// The command `pmq` of the same build, where there is one.
fn program() -> Result<Option<PathBuf>> {
    let myself = std::env::current_exe()?;
    let directory = myself.parent().context("this program is in no directory")?;
    Ok(Some(directory.join("pmq")).filter(|program| program.exists()))
}
