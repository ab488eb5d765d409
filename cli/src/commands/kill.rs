//! `pmq kill` and `pmq terminate`: end processes, wherever they run.

use clap::Args;
use pmq_broker::task_queue::Signal;
use pmq_broker::{Process, ProcessError, TaskId};
use serde_json::json;
use tokio::task::JoinSet;

use crate::args::SearchFlag;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::sentence;
use crate::locate::{Located, attach, locate};
use crate::output::note;

const KILL_HELP: &str = "\
It returns when its worker says that it is dead, from any host; one that has ended already is no error. Any task can \
be killed; one that still waits is cancelled.

Exit codes: 0; 1 where an id is unknown.

Examples:
  pmq kill 01890a5d-ac96-774b-bcce-b302099a8057
  pmq kill $(pmq run --detach -q big -- sleep 600)";

const TERMINATE_HELP: &str = "\
It gets SIGTERM, and SIGKILL after its worker's grace (5 s unless --kill-after is set there); this returns when it has \
ended. One that has ended already is no error.

Exit codes: 0; 1 where an id is unknown.

Example:
  pmq terminate 01890a5d-ac96-774b-bcce-b302099a8057";

/// Kill processes, and return when they are dead.
#[derive(Args, Debug)]
#[command(after_help = KILL_HELP)]
pub struct Kill {
    #[command(flatten)]
    which: Which,
}

/// Terminate processes, and return when they have ended.
#[derive(Args, Debug)]
#[command(after_help = TERMINATE_HELP)]
pub struct Terminate {
    #[command(flatten)]
    which: Which,
}

/// Which processes.
#[derive(Args, Debug)]
struct Which {
    /// The processes, or tasks of any kind
    #[arg(required = true, value_name = "ID")]
    ids: Vec<TaskId>,

    #[command(flatten)]
    search: SearchFlag,
}

impl Kill {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.which.stop(Signal::Kill, context).await
    }
}

impl Terminate {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        self.which.stop(Signal::Terminate, context).await
    }
}

impl Which {
    /// Stops all at once. What is unknown does not save the others.
    async fn stop(self, signal: Signal, context: &Context) -> anyhow::Result<Exit> {
        let broker = context.connect().await?;
        let mut stops = JoinSet::new();
        for Located { queue, ids } in locate(&broker, self.search.queue.as_ref(), &self.ids).await?
        {
            for id in ids {
                let queue = queue.clone();
                stops.spawn(async move {
                    let process = attach(&queue, id).await?;
                    stop(&process, signal).await?;
                    Ok((id, process.exitcode().await?))
                });
            }
        }
        let mut failed = None;
        while let Some(stopped) = stops.join_next().await {
            let stopped: anyhow::Result<_> = stopped?;
            match stopped {
                Ok((id, exitcode)) if context.output.is_json() => context
                    .output
                    .json(&json!({"id": id, "exitcode": exitcode}))?,
                Ok(_) => {}
                Err(error) => {
                    if let Some(error) = failed.replace(error) {
                        note(&format!("error: {}", sentence(&error)));
                    }
                }
            }
        }
        failed.map_or(Ok(Exit::OK), Err)
    }
}

async fn stop(process: &Process, signal: Signal) -> Result<(), ProcessError> {
    if signal == Signal::Kill {
        process.kill().await
    } else {
        process.terminate().await
    }
}
