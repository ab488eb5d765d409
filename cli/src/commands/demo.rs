//! `pmq demo`: Python's own teaching example, across processes and hosts.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use pmq_broker::{Broker, Name, Task, TaskId};
use pmq_worker::Worker;
use tokio::process::Child;

use crate::context::Context;
use crate::exit::Exit;
use crate::myself;

const AFTER_HELP: &str = "\
Worker processes loop: get_nowait from a queue of tasks until it is empty, put what they did on a queue of completed \
tasks. This process joins them and prints the second queue.

Example:
  pmq demo --tasks 8 --processes 3";

/// The name of the demo's task, which its workers know.
const TASK: &str = "demo";
/// How long a task takes, so that every process gets some.
const WORK: Duration = Duration::from_millis(50);

/// Run tasks through two queues and several worker processes
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Demo {
    /// How many tasks
    #[arg(long, default_value_t = 8)]
    tasks: u32,

    /// How many worker processes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    processes: u32,
}

impl Demo {
    /// Submits, starts the processes, joins them, prints.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let broker = context.connect().await?;
        let (name, done) = (unique_name()?, Name::new("done")?);
        let queue = broker.task_queue(&name);
        let tasks: Vec<Task> = (0..self.tasks)
            .map(|number| Task::handler(TASK, number.to_string()))
            .collect();
        queue.submit_many(&tasks).await?;

        let processes: Vec<Child> = (1..=self.processes)
            .map(|j| start(context, &name, &done, j))
            .collect::<Result<_, _>>()?;
        for mut process in processes {
            let status = process
                .wait()
                .await
                .context("could not join a worker process")?;
            ensure!(status.success(), "a worker process ended with {status}");
        }

        let mut completions = queue.completions(&done);
        while let Some(completion) = completions.get_nowait().await? {
            context
                .output
                .line(&String::from_utf8_lossy(&completion.body))?;
        }
        completions.close().await?;
        clean_up(&broker, &name).await;
        Ok(Exit::OK)
    }
}

fn unique_name() -> Result<Name, pmq_broker::Error> {
    let id = TaskId::new().to_string();
    Name::new(format!("demo-{}", &id[id.len() - 12..]))
}

/// `Process(target=do_job, args=(tasks, done))`, and start it.
fn start(context: &Context, queue: &Name, done: &Name, number: u32) -> anyhow::Result<Child> {
    let name = format!("Process-{number}");
    let arguments = [
        "worker",
        "--demo",
        "--burst",
        "-c",
        "1",
        "--name",
        &name,
        "-q",
        queue.as_str(),
        "--completions",
        done.as_str(),
    ];
    myself::command(context, &arguments)?
        .spawn()
        .context("could not start a worker process")
}

/// Has a worker know the demo's task.
pub(crate) fn teach(worker: &mut Worker) {
    worker.handle_bytes(TASK, |run, number| async move {
        tokio::time::sleep(WORK).await;
        let number = String::from_utf8_lossy(&number);
        Ok(Bytes::from(format!(
            "Task no {number} is done by {}",
            run.worker
        )))
    });
}

async fn clean_up(broker: &Broker, name: &Name) {
    if let Err(error) = broker.forget_queue(name).await {
        tracing::debug!(%error, "could not forget the demo's queue");
    }
}
