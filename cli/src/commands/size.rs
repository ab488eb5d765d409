//! `pmq size`: how many items a plain queue holds.

use clap::Args;
use pmq_broker::Name;
use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;

const AFTER_HELP: &str = "\
Items that were put and not got. A queue that nobody has used holds 0.

JSON fields: queue, size.

Exit codes: 0.

Example:
  pmq size fruit";

/// Print how many items a queue holds.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Size {
    /// The queue
    #[arg(value_name = "NAME")]
    queue: Name,
}

impl Size {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let broker = context.connect().await?;
        let size = broker.raw_queue(&self.queue).qsize().await?;
        let output = context.output;
        if output.is_json() {
            output.json(&json!({"queue": self.queue, "size": size}))?;
        } else {
            output.line(&size.to_string())?;
        }
        Ok(Exit::OK)
    }
}
