//! The subcommands, one file each: what it takes, and what it does.

mod acl;
mod authkey;
mod bench;
mod cancel;
mod dead;
mod demo;
mod doctor;
mod functions;
mod generate;
mod get;
mod join;
mod kill;
mod local;
mod lock;
mod logs;
mod map;
mod ps;
mod put;
mod queue;
mod run;
mod sem;
mod size;
mod status;
mod submit;
mod wait;
mod worker;

use clap::Subcommand;
use tokio::runtime::{Builder, Runtime};

use crate::context::Context;
use crate::exit::Exit;

/// A subcommand. A new one is its `mod`, its variant, and its line in [`Command::run`].
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Put tasks into a task queue
    Submit(Box<submit::Submit>),
    /// Run a command for each line of stdin, or each argument after `:::`
    Map(Box<map::Map>),
    /// Run a command on the fleet as if it ran here
    Run(run::Run),
    /// Show the processes that run
    Ps(ps::Ps),
    /// Kill processes, and return when they are dead
    Kill(kill::Kill),
    /// Terminate processes, and return when they have ended
    Terminate(kill::Terminate),
    /// Wait until a process has ended, and exit with its code
    Join(join::Join),
    /// Claim tasks and run them
    Worker(worker::WorkerCommand),
    /// Put items into a queue
    Put(put::Put),
    /// Get items from a queue, or completions from a completion queue
    Get(get::Get),
    /// Print how many items a queue holds
    Size(size::Size),
    /// Show queues, workers, or one task
    Status(status::Status),
    /// Wait until tasks have ended
    Wait(wait::Wait),
    /// Show what a process prints
    Logs(logs::Logs),
    /// Cancel tasks, waiting or running
    Cancel(cancel::Cancel),
    /// List, pause, resume, purge and set up task queues
    #[command(subcommand)]
    Queue(queue::Queue),
    /// List, requeue and purge dead letters
    #[command(subcommand)]
    Dead(dead::Dead),
    /// Run a command while a lock is held
    Lock(lock::Lock),
    /// Run a command while a permit of a semaphore is held
    Sem(sem::Sem),
    /// Print Redis's access rules for a role
    Acl(acl::Acl),
    /// Make an authkey, or show the ids of the keys in a file
    #[command(subcommand)]
    Authkey(authkey::Authkey),
    /// Manage the local broker
    #[command(subcommand)]
    Local(local::Local),
    /// Manage pmq's function library in Redis
    #[command(subcommand)]
    Functions(functions::Functions),
    /// Check the broker: version, settings, rights, clock, latency
    Doctor(doctor::Doctor),
    /// Measure pmq on the broker, beside plain Redis commands
    Bench(bench::Bench),
    /// Run Python's teaching example of queues and processes
    Demo(demo::Demo),
    /// Generate shell completions and man pages
    #[command(subcommand)]
    Generate(generate::Generate),
}

impl Command {
    /// The runtime that it needs: a worker starts commands on all CPUs, whereas the others wait for the broker, and
    /// start sooner without threads.
    pub fn runtime(&self) -> std::io::Result<Runtime> {
        let mut builder = match self {
            Self::Worker(_) => Builder::new_multi_thread(),
            _ => Builder::new_current_thread(),
        };
        builder.enable_all().build()
    }

    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Submit(command) => interruptible(command.run(context)).await,
            // These three end in order by themselves, on more than one signal.
            Self::Map(command) => command.run(context).await,
            Self::Worker(command) => command.run(context).await,
            Self::Run(command) => command.run(context).await,
            Self::Ps(command) => interruptible(command.run(context)).await,
            Self::Kill(command) => interruptible(command.run(context)).await,
            Self::Terminate(command) => interruptible(command.run(context)).await,
            Self::Join(command) => interruptible(command.run(context)).await,
            Self::Put(command) => interruptible(command.run(context)).await,
            Self::Get(command) => interruptible(command.run(context)).await,
            Self::Size(command) => interruptible(command.run(context)).await,
            Self::Status(command) => interruptible(command.run(context)).await,
            Self::Wait(command) => interruptible(command.run(context)).await,
            Self::Logs(command) => interruptible(command.run(context)).await,
            Self::Cancel(command) => interruptible(command.run(context)).await,
            Self::Queue(command) => interruptible(command.run(context)).await,
            Self::Dead(command) => interruptible(command.run(context)).await,
            // These two pass signals on to their command.
            Self::Lock(command) => command.run(context).await,
            Self::Sem(command) => command.run(context).await,
            Self::Local(command) => interruptible(command.run(context)).await,
            Self::Functions(command) => interruptible(command.run(context)).await,
            Self::Doctor(command) => interruptible(command.run(context)).await,
            // It leaves nothing behind, also where it is interrupted.
            Self::Bench(command) => command.run(context).await,
            Self::Demo(command) => interruptible(command.run(context)).await,
            Self::Acl(command) => interruptible(command.run(context)).await,
            Self::Authkey(command) => command.run(context),
            Self::Generate(command) => command.run(context),
        }
    }
}

/// Lets Ctrl-C end a command in order: what it holds is given back, and the local broker is left.
async fn interruptible(
    command: impl Future<Output = anyhow::Result<Exit>>,
) -> anyhow::Result<Exit> {
    tokio::select! {
        ended = command => ended,
        Ok(()) = tokio::signal::ctrl_c() => Ok(Exit::INTERRUPTED),
    }
}
