//! `pmq queue`: what operators do to a task queue.

use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::Cell;
use pmq_broker::task_queue::{QueueStatus, SHARDS_LIMIT, Settings};
use pmq_broker::{Broker, Name, TaskQueue};
use serde_json::json;

use crate::confirm::confirm;
use crate::context::Context;
use crate::duration;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Mood, Output, cell, count};
use crate::plural::counted;
use crate::shards;

/// List, pause, resume, purge and set up task queues.
#[derive(Subcommand, Debug)]
pub enum Queue {
    /// List the queues with their settings
    #[command(after_help = "Example:\n  pmq queue ls --json | jq -r 'select(.paused).queue'")]
    Ls,
    /// Make a queue, with more than one shard where one Redis is not enough
    #[command(
        after_help = "A queue that is there with as many shards stays as it is.\n\nExample:\n  pmq queue create mail --shards 12"
    )]
    Create(Create),
    /// Let workers claim nothing more; what runs goes on
    #[command(after_help = "Example:\n  pmq queue pause mail")]
    Pause(Which),
    /// Let workers claim again
    #[command(after_help = "Example:\n  pmq queue resume mail")]
    Resume(Which),
    /// Cancel all tasks that wait, ready or scheduled; their completions say so
    #[command(
        after_help = "What runs goes on: see `pmq cancel --all`.\n\nExample:\n  pmq queue purge mail --yes"
    )]
    Purge(Purge),
    /// Change settings of a queue
    #[command(
        after_help = "Example:\n  pmq queue set mail --maxsize 100000 --retention 1d --completions done"
    )]
    Set(Set),
}

/// A task queue.
#[derive(Args, Debug)]
pub struct Which {
    /// The task queue
    #[arg(value_name = "Q", default_value = "default")]
    queue: Name,
}

/// Make a queue.
#[derive(Args, Debug)]
pub struct Create {
    #[command(flatten)]
    which: Which,

    /// How many parts it has, 1 to 4096, on a Redis Cluster spread over all primaries; fixed from then on
    /// [default: 1; 16 on a Redis Cluster]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(SHARDS_LIMIT)))]
    shards: Option<u16>,
}

/// Cancel all tasks that wait.
#[derive(Args, Debug)]
pub struct Purge {
    #[command(flatten)]
    which: Which,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Change settings; what is not named stays as it is.
#[derive(Args, Debug)]
pub struct Set {
    #[command(flatten)]
    which: Which,

    /// How many tasks may wait before submit answers full; 0 for no limit
    #[arg(long, value_name = "N")]
    maxsize: Option<u64>,

    /// How long the ends of tasks are kept [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    retention: Option<Duration>,

    /// How many ends of tasks are kept at most [default: 1000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    results_max: Option<u64>,

    /// The completion queue of tasks whose submitter and worker name none
    #[arg(long, value_name = "NAME")]
    completions: Option<Name>,

    /// How many completions a completion queue holds before submit answers full [default: 1000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    completions_max: Option<u64>,

    /// How many bytes of the output of one process its log keeps [default: 4194304]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    log_max: Option<u64>,

    /// How many bytes all logs keep [default: 268435456]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    logs_max: Option<u64>,
}

impl Queue {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let output = context.output;
        match self {
            Self::Ls => list(&context.connect().await?, output).await?,
            Self::Create(command) => command.run(context).await?,
            Self::Pause(which) => pause(context, &which.queue, true).await?,
            Self::Resume(which) => pause(context, &which.queue, false).await?,
            Self::Purge(command) => command.run(context).await?,
            Self::Set(command) => command.run(context).await?,
        }
        Ok(Exit::OK)
    }
}

async fn list(broker: &Broker, output: Output) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for name in broker.queues().await? {
        let status = broker.task_queue(&name).status().await?;
        shards::warn(&name, &status);
        let setting = |name: &str| status.meta.get(name).cloned();
        if output.is_json() {
            let number = |name: &str| setting(name).and_then(|n| n.parse::<u64>().ok());
            output.json(&json!({
                "queue": name, "ready": status.ready, "scheduled": status.scheduled, "running": status.running,
                "dead": status.dead, "shards": shards::records(&status), "paused": status.paused, "maxsize": number("maxsize"),
                "retention_ms": number("retention"), "results_max": number("results_max"),
                "completions": setting("completions"), "completions_max": number("completions_max"),
                "log_max": number("log_max"), "logs_max": number("logs_max"),
            }))?;
        } else {
            rows.push(row(&name, &status));
        }
    }
    let header = [
        "queue",
        "ready",
        "scheduled",
        "running",
        "dead",
        "state",
        "settings",
    ];
    output.table(&header, rows)?;
    Ok(())
}

fn row(name: &Name, status: &QueueStatus) -> Vec<Cell> {
    let settings = [
        "shards",
        "maxsize",
        "retention",
        "results_max",
        "completions",
        "completions_max",
        "log_max",
        "logs_max",
    ];
    let settings = settings.iter().filter_map(|name| {
        let value = status.meta.get(*name)?;
        if *name == "shards" && value == "1" {
            return None;
        }
        let retention = value
            .parse()
            .ok()
            .filter(|_| *name == "retention")
            .map(Duration::from_millis);
        Some(format!(
            "{name}={}",
            retention.map_or_else(|| value.clone(), duration::show)
        ))
    });
    vec![
        Cell::new(name),
        Cell::new(status.ready),
        Cell::new(status.scheduled),
        Cell::new(status.running),
        count(status.dead, Mood::Bad),
        if status.paused {
            cell("paused", Mood::Doubtful)
        } else {
            cell("open", Mood::Good)
        },
        Cell::new(settings.collect::<Vec<_>>().join(" ")),
    ]
}

/// The queue, if there is one of this name: a name with a typo must not look as if it were done.
async fn known(broker: &Broker, name: &Name) -> anyhow::Result<TaskQueue> {
    let queue = broker.task_queue(name);
    // A user who may not write the list of queues has queues that do not stand on it.
    if broker.queues().await?.contains(name) || !queue.status().await?.meta.is_empty() {
        return Ok(queue);
    }
    let failure = Failure::new(Exit::FAILED, format!("there is no queue {name} yet"));
    Err(failure
        .with_hint("`pmq queue ls` lists the queues; the first submit or worker makes one")
        .into())
}

async fn pause(context: &Context, name: &Name, paused: bool) -> anyhow::Result<()> {
    let queue = known(&context.connect().await?, name).await?;
    if paused {
        queue.pause().await?;
    } else {
        queue.resume().await?;
    }
    let output = context.output;
    if output.is_json() {
        return output.json(&json!({"queue": name, "paused": paused}));
    }
    let word = if paused { "paused" } else { "open" };
    Ok(output.line(&format!("queue {name} is {word}"))?)
}

impl Create {
    async fn run(self, context: &Context) -> anyhow::Result<()> {
        let queue = context.connect().await?.task_queue(&self.which.queue);
        if let Some(shards) = self.shards {
            queue.create(shards).await?;
        }
        let shards = queue.open().await?.len();
        let output = context.output;
        if output.is_json() {
            return output.json(&json!({"queue": queue.name(), "shards": shards}));
        }
        Ok(output.line(&format!(
            "queue {} has {}",
            queue.name(),
            counted(shards as u64, "shard")
        ))?)
    }
}

impl Purge {
    async fn run(self, context: &Context) -> anyhow::Result<()> {
        let queue = known(&context.connect().await?, &self.which.queue).await?;
        let status = queue.status().await?;
        let waiting = status.ready + status.scheduled;
        let question = format!(
            "cancel {} of queue {}",
            counted(waiting, "waiting task"),
            queue.name()
        );
        if !confirm(&question, self.yes).await? {
            return Ok(());
        }
        let mut cancelled = 0;
        loop {
            let (n, more) = queue.purge_some().await?;
            cancelled += n;
            if !more {
                break;
            }
        }
        let output = context.output;
        if output.is_json() {
            return output.json(&json!({"queue": queue.name(), "cancelled": cancelled}));
        }
        Ok(output.line(&format!(
            "cancelled {} of queue {}",
            counted(cancelled, "waiting task"),
            queue.name()
        ))?)
    }
}

impl Set {
    async fn run(self, context: &Context) -> anyhow::Result<()> {
        let settings = Settings {
            paused: None,
            maxsize: self.maxsize,
            retention: self.retention,
            results_max: self.results_max,
            completions: self.completions,
            completions_max: self.completions_max,
            log_max: self.log_max,
            logs_max: self.logs_max,
        };
        let numbers = [
            settings.maxsize,
            settings.results_max,
            settings.completions_max,
            settings.log_max,
            settings.logs_max,
        ];
        if numbers.iter().all(Option::is_none)
            && settings.retention.is_none()
            && settings.completions.is_none()
        {
            return Err(Failure::usage("no setting is named")
                .with_hint("see `pmq queue set --help`; `pmq queue ls` shows the settings")
                .into());
        }
        if settings
            .retention
            .is_some_and(|retention| retention < Duration::from_secs(1))
        {
            return Err(Failure::usage("a retention time is at least 1s").into());
        }
        let queue = context.connect().await?.task_queue(&self.which.queue);
        queue.configure(&settings).await?;
        let output = context.output;
        if output.is_json() {
            return output
                .json(&json!({"queue": queue.name(), "settings": queue.status().await?.meta}));
        }
        output.table(
            &[
                "queue",
                "ready",
                "scheduled",
                "running",
                "dead",
                "state",
                "settings",
            ],
            vec![row(queue.name(), &queue.status().await?)],
        )?;
        Ok(())
    }
}
