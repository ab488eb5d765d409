//! `pmq status`: queues, workers, or one task.

use std::collections::BTreeMap;

use clap::Args;
use comfy_table::Cell;
use pmq_broker::task_queue::{Found, QueueStatus, Run, State};
use pmq_broker::{Broker, Name, TaskId, Work};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::SearchFlag;
use crate::completion_record::{self, CompletionRecord};
use crate::context::Context;
use crate::exit::Exit;
use crate::fleet::{self, Worker};
use crate::locate::locate;
use crate::output::{Mood, Output, cell, count};
use crate::shards;
use crate::when;

const AFTER_HELP: &str = "\
With --json and -q it is one object: queue, ready, scheduled, running, dead, suspects, paused, shards [...], \
completions {NAME: n}, workers [...]. Without -q it is one such object for each queue, then one for each worker.

Examples:
  pmq status
  pmq status -q mail --json | jq .ready
  pmq status 01890a5d-ac96-774b-bcce-b302099a8057";

/// Show how many tasks are in each state, which workers are up, or everything about one task.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Status {
    /// Show this task
    #[arg(value_name = "ID")]
    id: Option<TaskId>,

    #[command(flatten)]
    search: SearchFlag,

    /// Show each shard as well, as -q does [default: their sums]
    #[arg(long, conflicts_with = "id")]
    shards: bool,
}

#[derive(Serialize)]
struct QueueRecord<'a> {
    queue: &'a Name,
    ready: u64,
    scheduled: u64,
    running: u64,
    dead: u64,
    suspects: u64,
    paused: bool,
    shards: Vec<shards::Record>,
    completions: &'a BTreeMap<String, u64>,
    workers: Vec<&'a Value>,
}

#[derive(Serialize)]
struct TaskRecord<'a> {
    id: TaskId,
    queue: &'a Name,
    state: &'static str,
    name: Option<&'a str>,
    argv: Option<Vec<String>>,
    queued: Option<String>,
    /// Which run is under way, and since when; null unless it runs.
    attempt: Option<u16>,
    started: Option<String>,
    due: Option<String>,
    died: Option<String>,
    failures: u16,
    crashes: u16,
    completion: Option<CompletionRecord<'a>>,
}

impl Status {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let broker = context.connect().await?;
        let output = context.output;
        if let Some(id) = self.id {
            return task(&broker, id, self.search.queue.as_ref(), output).await;
        }
        let mut workers = fleet::workers(&broker).await?;
        let names = match &self.search.queue {
            Some(name) => {
                workers.retain(|worker| worker.serves(name));
                vec![name.clone()]
            }
            None => broker.queues().await?,
        };
        let mut queues = Vec::with_capacity(names.len());
        for name in names {
            let status = broker.task_queue(&name).status().await?;
            shards::warn(&name, &status);
            queues.push((name, status));
        }
        if output.is_json() {
            for (name, status) in &queues {
                output.json(&record(name, status, &workers))?;
            }
            if self.search.queue.is_none() {
                workers
                    .iter()
                    .try_for_each(|worker| output.json(&worker.json))?;
            }
        } else {
            show(&queues, &workers, output)?;
            if self.shards || self.search.queue.is_some() {
                shards::show(&queues, output)?;
            }
        }
        Ok(Exit::OK)
    }
}

fn record<'a>(queue: &'a Name, status: &'a QueueStatus, workers: &'a [Worker]) -> QueueRecord<'a> {
    let serving = workers.iter().filter(|worker| worker.serves(queue));
    QueueRecord {
        queue,
        ready: status.ready,
        scheduled: status.scheduled,
        running: status.running,
        dead: status.dead,
        suspects: status.suspects,
        paused: status.paused,
        shards: shards::records(status),
        completions: &status.completions,
        workers: serving.map(|worker| &worker.json).collect(),
    }
}

fn show(queues: &[(Name, QueueStatus)], workers: &[Worker], output: Output) -> anyhow::Result<()> {
    if queues.is_empty() && workers.is_empty() {
        output.line("no queues and no workers yet; `pmq submit -- echo hi` makes a first task")?;
    }
    let rows = queues.iter().map(|(name, status)| {
        let completions = status
            .completions
            .iter()
            .map(|(name, n)| format!("{name} {n}"));
        let serving = workers.iter().filter(|worker| worker.serves(name)).count();
        let state = if status.paused {
            cell("paused", Mood::Doubtful)
        } else {
            Cell::new("")
        };
        vec![
            Cell::new(name),
            Cell::new(status.ready),
            Cell::new(status.scheduled),
            Cell::new(status.running),
            count(status.dead, Mood::Bad),
            Cell::new(completions.collect::<Vec<_>>().join(", ")),
            Cell::new(serving),
            state,
        ]
    });
    let header = [
        "queue",
        "ready",
        "scheduled",
        "running",
        "dead",
        "completions",
        "workers",
        "",
    ];
    output.table(&header, rows.collect())?;
    if !queues.is_empty() && !workers.is_empty() {
        output.line("")?;
    }
    let rows = workers.iter().map(|Worker { about, .. }| {
        vec![
            Cell::new(&about.name),
            Cell::new(about.queues.join(", ")),
            Cell::new(format!("{} of {}", about.running, about.slots)),
            Cell::new(runs(about)),
            Cell::new(&about.version),
        ]
    });
    output.table(
        &["worker", "queues", "running", "runs", "version"],
        rows.collect(),
    )?;
    Ok(())
}

fn runs(about: &fleet::About) -> String {
    let commands = about.commands.then_some("commands");
    let tasks = about.tasks.iter().map(String::as_str);
    commands
        .into_iter()
        .chain(tasks)
        .collect::<Vec<_>>()
        .join(", ")
}

async fn task(
    broker: &Broker,
    id: TaskId,
    queue: Option<&Name>,
    output: Output,
) -> anyhow::Result<Exit> {
    let located = locate(broker, queue, &[id]).await?;
    let queue = &located[0].queue;
    let found = queue.find(id).await?;
    if found.state == State::Unknown {
        return unknown(id, output);
    }
    let record = task_record(queue.name(), &found);
    if output.is_json() {
        output.json(&record)?;
    } else {
        show_task(&record, &found, output)?;
    }
    Ok(Exit::OK)
}

/// Nobody knows its queue, nor when it was queued.
fn unknown(id: TaskId, output: Output) -> anyhow::Result<Exit> {
    let state = State::Unknown.as_str();
    if output.is_json() {
        output.json(&json!({"id": id, "state": state}))?;
    } else {
        output.line(&format!("task      {id}\nstate     {state}"))?;
    }
    Ok(Exit::FAILED)
}

fn task_record<'a>(queue: &'a Name, found: &'a Found) -> TaskRecord<'a> {
    let (name, argv) = match &found.work {
        Some(Work::Handler(name)) => (Some(name.as_str()), None),
        Some(Work::Command(argv)) => {
            let words = argv
                .iter()
                .map(|word| String::from_utf8_lossy(word).into_owned());
            (None, Some(words.collect()))
        }
        None => (None, None),
    };
    let at = |state| {
        found
            .at_ms
            .filter(|_| found.state == state)
            .and_then(when::iso)
    };
    let completion = found.completion.as_ref();
    let queued = completion
        .and_then(pmq_broker::Completion::queued_ms)
        .or_else(|| found.id.made_ms());
    let run = found.run.as_ref();
    TaskRecord {
        id: found.id,
        queue,
        state: found.state.as_str(),
        name,
        argv,
        queued: queued.and_then(when::iso),
        attempt: run.map(Run::attempt),
        // The token of a run is the time when it was claimed.
        started: run.and_then(|run| when::iso_us(run.token())),
        due: at(State::Scheduled),
        died: at(State::Dead),
        failures: found.used.0,
        crashes: found.used.1,
        completion: completion.map(CompletionRecord::new),
    }
}

fn show_task(record: &TaskRecord<'_>, found: &Found, output: Output) -> anyhow::Result<()> {
    let argv = record.argv.as_ref().map(|argv| argv.join(" "));
    let lines = [
        ("task", Some(record.id.to_string())),
        ("queue", Some(record.queue.to_string())),
        ("state", Some(record.state.to_owned())),
        ("runs", record.name.map(str::to_owned).or(argv)),
        ("queued", record.queued.clone()),
        ("attempt", record.attempt.map(|n| n.to_string())),
        ("started", record.started.clone()),
        ("due", record.due.clone()),
        ("died", record.died.clone()),
        (
            "failures",
            (record.failures > 0).then(|| record.failures.to_string()),
        ),
        (
            "crashes",
            (record.crashes > 0).then(|| record.crashes.to_string()),
        ),
        (
            "end",
            found
                .completion
                .as_ref()
                .map(|c| completion_record::line(c, output)),
        ),
    ];
    for (name, value) in lines {
        if let Some(value) = value {
            output.line(&format!("{name:<9} {value}"))?;
        }
    }
    Ok(())
}
