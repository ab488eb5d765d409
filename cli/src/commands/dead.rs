//! `pmq dead`: dead letters, tasks that are kept although nothing runs them any more.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use pmq_broker::task_queue::DeadLetter;
use pmq_broker::{Name, TaskId, TaskQueue, Work};
use serde_json::json;

use crate::args::QueueFlag;
use crate::completion_record::CompletionRecord;
use crate::confirm::confirm;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::Output;
use crate::plural::counted;
use crate::when;

/// The most ids of one call of the broker.
const CHUNK: usize = 100;

/// List, requeue and purge dead letters.
#[derive(Subcommand, Debug)]
pub enum Dead {
    /// List dead letters, oldest first, with what they would run and why they died
    #[command(after_help = "Example:\n  pmq dead ls -q mail --json | jq -r .error")]
    Ls(QueueFlag),
    /// Give dead letters a new life, with all their attempts
    #[command(after_help = "Example:\n  pmq dead requeue -q mail --all")]
    Requeue(Requeue),
    /// Delete dead letters for good
    #[command(
        after_help = "Example:\n  pmq dead purge -q mail 01890a5d-ac96-774b-bcce-b302099a8057 --yes"
    )]
    Purge(Purge),
}

/// Which dead letters.
#[derive(Args, Debug)]
pub(super) struct Which {
    /// The tasks
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<TaskId>,

    /// All dead letters of the queue
    #[arg(long, conflicts_with = "ids")]
    all: bool,

    #[command(flatten)]
    queue: QueueFlag,
}

/// Give dead letters a new life.
#[derive(Args, Debug)]
pub struct Requeue {
    #[command(flatten)]
    which: Which,
}

/// Delete dead letters.
#[derive(Args, Debug)]
pub struct Purge {
    #[command(flatten)]
    which: Which,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Dead {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::Ls(flag) => list(context, &flag.queue).await,
            Self::Requeue(Requeue { which }) => {
                let queue = context.connect().await?.task_queue(&which.queue.queue);
                let done = which
                    .each(&queue, async |ids| queue.requeue(ids).await)
                    .await?;
                which.show(done, "requeued", context.output)
            }
            Self::Purge(Purge { which, yes }) => {
                let queue = context.connect().await?.task_queue(&which.queue.queue);
                let n = which.asked(&queue).await?;
                if !confirm(
                    &format!(
                        "delete {} of queue {} for good",
                        counted(n, "dead letter"),
                        queue.name()
                    ),
                    yes,
                )
                .await?
                {
                    return Ok(Exit::OK);
                }
                let done = which
                    .each(&queue, async |ids| queue.purge_dead(ids).await)
                    .await?;
                which.show(done, "deleted", context.output)
            }
        }
    }
}

impl Which {
    async fn asked(&self, queue: &TaskQueue) -> pmq_broker::Result<u64> {
        if self.all {
            Ok(queue.status().await?.dead)
        } else {
            Ok(self.ids.len() as u64)
        }
    }

    /// Calls `act` in steps, until all named ones, or as many as there were at the start, have been through it.
    async fn each(
        &self,
        queue: &TaskQueue,
        act: impl AsyncFn(Option<&[TaskId]>) -> pmq_broker::Result<u64>,
    ) -> pmq_broker::Result<u64> {
        let mut done = 0;
        if !self.all {
            for ids in self.ids.chunks(CHUNK) {
                done += act(Some(ids)).await?;
            }
            return Ok(done);
        }
        // A letter that dies again meanwhile must not keep this going for ever.
        let there = self.asked(queue).await?;
        while done < there {
            match act(None).await? {
                0 => break,
                n => done += n,
            }
        }
        Ok(done)
    }

    fn show(&self, done: u64, word: &str, output: Output) -> anyhow::Result<Exit> {
        let missing = if self.all {
            0
        } else {
            (self.ids.len() as u64).saturating_sub(done)
        };
        if output.is_json() {
            output.json(&json!({"queue": self.queue.queue, word: done, "missing": missing}))?;
        } else {
            output.line(&format!(
                "{word} {} of queue {}",
                counted(done, "dead letter"),
                self.queue.queue
            ))?;
            if missing > 0 {
                output.line(&format!(
                    "{} not found among the dead letters",
                    counted(missing, "task")
                ))?;
            }
        }
        Ok(if missing == 0 { Exit::OK } else { Exit::FAILED })
    }
}

async fn list(context: &Context, name: &Name) -> anyhow::Result<Exit> {
    let queue = context.connect().await?.task_queue(name);
    let output = context.output;
    let (mut letters, mut rows) = (queue.dead_letters().await?, Vec::new());
    while let Some(letter) = letters.next().await? {
        if output.is_json() {
            output.json(&record(&letter)?)?;
        } else {
            rows.push(row(&letter));
        }
    }
    output.table(&["task", "died", "runs", "outcome", "why"], rows)?;
    Ok(Exit::OK)
}

/// The completion's fields, and when it died and what it would run.
fn record(letter: &DeadLetter) -> serde_json::Result<serde_json::Value> {
    let mut record = json!({"id": letter.id, "exit": null});
    if let Some(completion) = &letter.completion {
        record = serde_json::to_value(CompletionRecord::new(completion))?;
    }
    record["error"] = json!(why(letter));
    record["died"] = json!(when::iso(letter.died_ms));
    match &letter.work {
        Some(Work::Handler(name)) => record["name"] = json!(name),
        Some(Work::Command(argv)) => record["argv"] = json!(words(argv)),
        None => {}
    }
    Ok(record)
}

fn words(argv: &[Vec<u8>]) -> Vec<String> {
    argv.iter()
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// The error of its last run, or how its command ended.
fn why(letter: &DeadLetter) -> Option<String> {
    let completion = letter.completion.as_ref()?;
    let exit = completion.exit.map(|exit| match exit {
        signal if signal < 0 => format!("signal {}", signal.unsigned_abs()),
        code => format!("exit code {code}"),
    });
    completion.report.error.clone().or(exit)
}

fn row(letter: &DeadLetter) -> Vec<Cell> {
    let runs = match &letter.work {
        Some(Work::Handler(name)) => name.clone(),
        Some(Work::Command(argv)) => words(argv).join(" "),
        None => "(unreadable)".to_owned(),
    };
    let completion = letter.completion.as_ref();
    vec![
        Cell::new(letter.id),
        Cell::new(when::iso(letter.died_ms).unwrap_or_default()),
        Cell::new(short(&runs, 40)),
        Cell::new(completion.map_or("", |completion| completion.outcome.as_str())),
        Cell::new(short(&why(letter).unwrap_or_default(), 60)),
    ]
}

/// One line of at most `width` characters that can't drive the reader's terminal.
fn short(text: &str, width: usize) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(width).collect()
}
