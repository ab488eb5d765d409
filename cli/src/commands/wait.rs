//! `pmq wait`: until tasks have ended.

use std::time::Duration;

use clap::Args;
use pmq_broker::task_queue::Ending;
use pmq_broker::{Completion, TaskId, TaskQueue};
use tokio::time::Instant;

use crate::args::SearchFlag;
use crate::completion_record::{self, CompletionRecord};
use crate::context::Context;
use crate::duration;
use crate::exit::Exit;
use crate::locate::{Located, locate, unknown};
use crate::output::{Output, note};

const AFTER_HELP: &str = "\
A task that posted its completion to a completion queue shows its outcome and exit code here, not its output.

Exit codes: the task's own, 128+n where signal n ended it, 1 where a handler failed or the task is unknown; of \
several tasks the highest; 124 where the time is up.

Examples:
  id=$(pmq submit -- sh -c 'exit 3')
  pmq worker --burst                # or one that is up runs it
  pmq wait \"$id\" --timeout 1m; echo $?";

/// Longest single wait without a time limit.
const LONG: Duration = Duration::from_secs(3600);

/// Wait until tasks have ended, and exit with their code.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Wait {
    /// The tasks
    #[arg(required = true, value_name = "ID")]
    ids: Vec<TaskId>,

    #[command(flatten)]
    search: SearchFlag,

    /// Wait no longer than this
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    timeout: Option<Duration>,
}

impl Wait {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let broker = context.connect().await?;
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let mut worst = Exit::OK;
        for Located { queue, ids } in locate(&broker, self.search.queue.as_ref(), &self.ids).await?
        {
            let endings = until_ended(&queue, &ids, deadline).await?;
            for (id, ending) in ids.iter().zip(endings) {
                worst = worst.max(show(*id, &ending, context.output)?);
            }
        }
        Ok(worst)
    }
}

/// Waits for tasks of one queue; those that live at the deadline are [`Ending::Living`].
async fn until_ended(
    queue: &TaskQueue,
    ids: &[TaskId],
    deadline: Option<Instant>,
) -> pmq_broker::Result<Vec<Ending>> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let endings = queue.wait(ids, left.unwrap_or(LONG)).await?;
        if deadline.is_some() || !endings.contains(&Ending::Living) {
            return Ok(endings);
        }
    }
}

/// Waits for one task that is known to be there.
pub(super) async fn until_one_ended(queue: &TaskQueue, id: TaskId) -> anyhow::Result<Completion> {
    match until_ended(queue, &[id], None).await?.pop() {
        Some(Ending::Ended(completion)) => Ok(*completion),
        _ => Err(unknown(id).into()),
    }
}

fn show(id: TaskId, ending: &Ending, output: Output) -> anyhow::Result<Exit> {
    match ending {
        Ending::Ended(completion) => {
            if output.is_json() {
                output.json(&CompletionRecord::new(completion))?;
            } else {
                output.line(&completion_record::line(completion, output))?;
            }
            Ok(Exit::of_task(completion))
        }
        Ending::Living => {
            note(&format!("task {id} has not ended"));
            Ok(Exit::TIMED_OUT)
        }
        Ending::Unknown => {
            note(&format!("error: {}", unknown(id)));
            Ok(Exit::FAILED)
        }
    }
}
