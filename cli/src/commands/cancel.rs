//! `pmq cancel`: end tasks that wait, stop those that run.

use clap::{Args, ValueEnum};
use pmq_broker::task_queue::{Cancelled, Signal};
use pmq_broker::{Name, TaskId, TaskQueue};
use serde_json::json;

use crate::args::SearchFlag;
use crate::context::Context;
use crate::exit::Exit;
use crate::locate::{Located, locate};
use crate::output::Output;
use crate::plural::counted;

const AFTER_HELP: &str = "\
A task that waits ends at once. A running command gets the signal, and SIGKILL after a grace; `pmq wait` tells when it \
has ended. What it answers for each task: cancelled, stopping (it runs, its worker is told), dead (a dead letter: \
see `pmq dead`), ended (it had ended before), unknown.

Exit codes: 0; 1 where a task is unknown.

Examples:
  pmq cancel 01890a5d-ac96-774b-bcce-b302099a8057
  pmq cancel --all -q mail --signal KILL";

/// Cancel tasks, waiting or running.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Cancel {
    /// The tasks
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<TaskId>,

    /// All tasks of the queue that wait or run [queue: default]
    #[arg(long, conflicts_with = "ids")]
    all: bool,

    #[command(flatten)]
    search: SearchFlag,

    /// What a running command gets: TERM, KILL, INT
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        ignore_case = true,
        default_value = "TERM"
    )]
    signal: SignalName,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "UPPER")]
enum SignalName {
    Term,
    Kill,
    Int,
}

impl SignalName {
    fn signal(self) -> Signal {
        match self {
            Self::Term => Signal::Terminate,
            Self::Kill => Signal::Kill,
            Self::Int => Signal::Interrupt,
        }
    }
}

impl Cancel {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let broker = context.connect().await?;
        let output = context.output;
        if self.all {
            let default = Name::new("default")?;
            let queue = broker.task_queue(self.search.queue.as_ref().unwrap_or(&default));
            return all(&queue, self.signal.signal(), output).await;
        }
        let mut exit = Exit::OK;
        for Located { queue, ids } in locate(&broker, self.search.queue.as_ref(), &self.ids).await?
        {
            let answers = queue.cancel(&ids, self.signal.signal()).await?;
            for (id, answer) in ids.iter().zip(answers) {
                show(*id, answer, output)?;
                if answer == Cancelled::Unknown {
                    exit = Exit::FAILED;
                }
            }
        }
        Ok(exit)
    }
}

/// Cancels what waits first, so that no slot that gets free takes another task.
async fn all(queue: &TaskQueue, signal: Signal, output: Output) -> anyhow::Result<Exit> {
    let mut cancelled = 0;
    loop {
        let (n, more) = queue.purge_some().await?;
        cancelled += n;
        if !more {
            break;
        }
    }
    let running = queue.running().await?;
    let answers = queue.cancel(&running, signal).await?;
    let stopping = answers
        .iter()
        .filter(|answer| **answer == Cancelled::Stopping)
        .count();
    if output.is_json() {
        output
            .json(&json!({"queue": queue.name(), "cancelled": cancelled, "stopping": stopping}))?;
    } else {
        output.line(&format!(
            "cancelled {}, stopping {}",
            counted(cancelled, "waiting task"),
            counted(stopping as u64, "running task")
        ))?;
    }
    Ok(Exit::OK)
}

fn show(id: TaskId, answer: Cancelled, output: Output) -> anyhow::Result<()> {
    let word = match answer {
        Cancelled::Cancelled => "cancelled",
        Cancelled::Stopping => "stopping",
        Cancelled::Dead => "dead",
        Cancelled::Ended => "ended",
        Cancelled::Unknown => "unknown",
    };
    if output.is_json() {
        output.json(&json!({"id": id, "answer": word}))
    } else {
        Ok(output.line(&format!("{id}  {word}"))?)
    }
}
