//! pmq's performance, each figure beside its floor: the same key operations as plain pipelined commands, for the same
//! batch, in the same run, with no code of pmq.
//!
//!     cargo run --release -p pmq-benches            all figures, as a table
//!     cargo run --release -p pmq-benches -- --json  the same as one object
//!     cargo run --release -p pmq-benches -- locks   those of locks alone

#[expect(clippy::disallowed_types, reason = "the floor is raw Redis")]
mod floor;
#[expect(clippy::disallowed_types, reason = "the floor is raw Redis")]
mod locks;
mod measure;
mod pool;
mod roles;
mod table;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measure pmq beside raw Redis, on a server of its own.
#[derive(Parser)]
struct Arguments {
    /// Tasks a figure
    #[arg(long, default_value_t = 200_000)]
    tasks: usize,
    /// Runs a figure; the table shows the median
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What a child process of the benchmark does.
#[derive(Subcommand)]
enum Role {
    /// Submit tasks.
    #[command(hide = true)]
    Produce { url: String, tasks: usize },
    /// Run tasks until there is none.
    #[command(hide = true)]
    Work { url: String, tasks: usize },
    /// Map over items with a pool; prints the seconds.
    #[command(hide = true)]
    PoolMap { url: String, tasks: usize },
    /// The first two, as plain commands.
    #[command(hide = true)]
    FloorProduce { url: String, tasks: usize },
    #[command(hide = true)]
    FloorWork { url: String, tasks: usize },
    /// Measure locks alone.
    Locks,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.role {
        None => table::print(
            &measure::all(arguments.tasks, arguments.runs)?,
            arguments.json,
        ),
        Some(Role::Produce { url, tasks }) => runtime()?.block_on(roles::produce(&url, tasks)),
        Some(Role::Work { url, tasks }) => runtime()?.block_on(roles::work(&url, tasks)),
        Some(Role::PoolMap { url, tasks }) => runtime()?.block_on(pool::map(&url, tasks as u64)),
        Some(Role::FloorProduce { url, tasks }) => {
            floor::produce(&mut floor::connect(&url)?, tasks)
        }
        Some(Role::Locks) => {
            let server = pmq_tests::RedisServer::builder().tcp(true).start();
            table::print(&locks::all(&server.url())?, arguments.json)
        }
        Some(Role::FloorWork { url, tasks }) => floor::work(&mut floor::connect(&url)?, tasks),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}
