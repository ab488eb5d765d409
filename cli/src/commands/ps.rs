//! `pmq ps`: the processes that run.

use std::time::Duration;

use clap::Args;
use comfy_table::Cell;
use pmq_broker::task_queue::{Run, StartedProcess, State};
use pmq_broker::{Name, TaskId, TaskQueue, Work};
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::{duration, when};

const AFTER_HELP: &str = "\
With --json a line a process: id, queue, name, state (running, or lost where the lease of its worker has ended), host, pid, worker, started, daemon, parent (name, pid, host, id), \
argv or task. What has no pid is a task that is no process, shown with --all.

Examples:
  pmq ps
  pmq ps -q big --json";

const HEADER: [&str; 7] = ["id", "name", "state", "host", "pid", "running", "command"];
/// Characters of a command that a table shows.
const WIDTH: usize = 60;
/// The state of a process that ends as lost as soon as somebody takes it back.
const LOST: &str = "lost";

/// Show the processes that run.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Ps {
    /// The task queue [default: all]
    #[arg(short, long, value_name = "Q")]
    queue: Option<Name>,

    /// Also the tasks that run and are no processes
    #[arg(short, long)]
    all: bool,
}

/// A line of the list.
#[derive(Debug, Serialize)]
struct Row {
    id: TaskId,
    queue: Name,
    name: String,
    state: &'static str,
    host: Option<String>,
    pid: Option<u32>,
    worker: Option<String>,
    started: Option<String>,
    daemon: bool,
    parent: Option<Parent>,
    argv: Option<Vec<String>>,
    task: Option<String>,
    #[serde(skip)]
    started_ms: u64,
}

#[derive(Debug, Serialize)]
struct Parent {
    name: String,
    pid: u32,
    host: String,
    id: Option<TaskId>,
}

impl Ps {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let broker = context.connect().await?;
        let names = match self.queue {
            Some(name) => vec![name],
            None => broker.queues().await?,
        };
        let mut rows = Vec::new();
        for name in &names {
            let queue = broker.task_queue(name);
            let processes = queue.processes().await?;
            let known: Vec<TaskId> = processes.iter().map(|process| process.id).collect();
            rows.extend(processes.into_iter().map(|process| Row::new(name, process)));
            if self.all {
                rows.extend(others(&queue, &known).await?);
            }
        }
        rows.sort_by_key(|row| (row.started_ms, row.id));
        if context.output.is_json() {
            for row in &rows {
                context.output.json(row)?;
            }
            return Ok(Exit::OK);
        }
        let now_ms = broker.server_time_ms().await?;
        let cells = rows.iter().map(|row| row.cells(now_ms)).collect();
        context.output.table(&HEADER, cells)?;
        Ok(Exit::OK)
    }
}

/// The running tasks of a queue that are none of these.
async fn others(queue: &TaskQueue, known: &[TaskId]) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for id in queue.running().await? {
        if known.contains(&id) {
            continue;
        }
        let found = queue.find(id).await?;
        if found.state != State::Running {
            continue;
        }
        // The token of a run is the time when it was claimed.
        let started_ms = found.run.as_ref().map_or(0, Run::token) / 1000;
        rows.push(Row {
            started_ms,
            started: when::iso(started_ms),
            ..Row::of(queue.name(), id, found.work)
        });
    }
    Ok(rows)
}

impl Row {
    fn new(queue: &Name, process: StartedProcess) -> Self {
        let started = process.started;
        let mut row = Self {
            host: Some(started.host),
            pid: Some(started.pid),
            worker: Some(started.worker),
            started: when::iso(started.started_ms),
            started_ms: started.started_ms,
            ..Self::of(queue, process.id, process.work)
        };
        if process.lost {
            row.state = LOST;
        }
        if let Some(lineage) = process.lineage {
            row.name = lineage.name;
            row.daemon = lineage.daemon;
            row.parent = Some(Parent {
                name: lineage.parent.name,
                pid: lineage.parent.pid,
                host: lineage.parent.host,
                id: lineage.parent.id,
            });
        }
        row
    }

    fn of(queue: &Name, id: TaskId, work: Option<Work>) -> Self {
        let (task, argv) = match work {
            Some(Work::Handler(name)) => (Some(name), None),
            Some(Work::Command(argv)) => (None, Some(words(&argv))),
            None => (None, None),
        };
        Self {
            id,
            queue: queue.clone(),
            name: String::new(),
            state: State::Running.as_str(),
            host: None,
            pid: None,
            worker: None,
            started: None,
            daemon: false,
            parent: None,
            argv,
            task,
            started_ms: 0,
        }
    }

    fn cells(&self, now_ms: u64) -> Vec<Cell> {
        let whole = now_ms.saturating_sub(self.started_ms) / 1000;
        let command = match (&self.argv, &self.task) {
            (Some(argv), _) => argv.join(" "),
            (None, Some(task)) => task.clone(),
            (None, None) => String::new(),
        };
        let pid = self.pid.map_or_else(String::new, |pid| pid.to_string());
        [
            self.id.to_string(),
            shown(&self.name),
            self.state.to_owned(),
            shown(self.host.as_deref().unwrap_or_default()),
            pid,
            duration::show(Duration::from_secs(whole)),
            shown(&command),
        ]
        .map(Cell::new)
        .into()
    }
}

fn words(argv: &[Vec<u8>]) -> Vec<String> {
    let word = |word: &Vec<u8>| String::from_utf8_lossy(word).into_owned();
    argv.iter().map(word).collect()
}

/// A text that fits into a table, and does not drive the reader's terminal.
fn shown(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(WIDTH)
        .collect();
    if text.chars().count() > WIDTH {
        shown.push_str(" ...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_is_cut_and_harmless() {
        assert_eq!(shown("sh -c\n\x1b[31m"), "sh -c  [31m");
        let long = shown(&"x".repeat(WIDTH + 1));
        assert_eq!(long.len(), WIDTH + 4);
    }
}
