//! `pmq functions`: pmq's library in Redis.

use clap::Subcommand;
use pmq_broker::functions::LIBRARY;
use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;

const AFTER_HELP: &str = "\
pmq loads its library by itself where its user may; where it may not, an administrator does it with this command. Old \
and new libraries stand side by side, and none is ever replaced.

Example:
  pmq functions load --redis redis://admin@redis.example";

/// Manage pmq's function library in Redis.
#[derive(Subcommand, Debug)]
pub enum Functions {
    /// Load the library of this version of pmq, where it is missing
    #[command(after_help = AFTER_HELP)]
    Load,
}

impl Functions {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let broker = context.connect().await?;
        broker.load_functions().await?;
        if context.output.is_json() {
            context.output.json(&json!({"library": LIBRARY}))?;
        } else {
            context
                .output
                .line(&format!("library {LIBRARY} is loaded"))?;
        }
        Ok(Exit::OK)
    }
}
