//! `pmq join`: until a process has ended.

use std::time::Duration;

use clap::Args;
use pmq_broker::TaskId;
use serde_json::json;

use crate::args::SearchFlag;
use crate::context::Context;
use crate::duration;
use crate::exit::Exit;
use crate::locate::{attach, locate};
use crate::output::note;

const AFTER_HELP: &str = "\
Exit codes: the process's own, 128+n where signal n ended it (137 also where its host was lost); 1 where a handler \
failed or the id is unknown; 124 where the time is up.

Examples:
  pmq join 01890a5d-ac96-774b-bcce-b302099a8057 --timeout 1m
  id=$(pmq run -q big --detach -- ./convert a b); pmq join \"$id\"; echo $?";

/// Wait until a process has ended, and exit with its code.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Join {
    /// The process, or a task of any kind
    #[arg(value_name = "ID")]
    id: TaskId,

    #[command(flatten)]
    search: SearchFlag,

    /// Wait no longer than this
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,
}

impl Join {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let broker = context.connect().await?;
        let located = locate(&broker, self.search.queue.as_ref(), &[self.id]).await?;
        let process = attach(&located[0].queue, self.id).await?;
        let ended = match self.timeout {
            Some(timeout) => process.join_timeout(timeout).await?,
            None => process.join().await.map(|()| true)?,
        };
        let exitcode = process.exitcode().await?;
        if context.output.is_json() {
            context
                .output
                .json(&json!({"id": self.id, "exitcode": exitcode}))?;
        }
        match exitcode {
            Some(code) if ended => Ok(Exit::of_process(code)),
            _ => {
                note(&format!("process {} has not ended", self.id));
                Ok(Exit::TIMED_OUT)
            }
        }
    }
}
