//! `pmq sem`: run a command while a permit of a semaphore is held, across hosts.

use clap::Args;
use pmq_broker::Name;

use crate::context::Context;
use crate::exit::Exit;
use crate::hold::{Hold, Words};

const AFTER_HELP: &str = "\
At most N commands run at once, on all hosts that use the same broker. All of them must name the same N. The command \
finds the name in PMQ_SEMAPHORE; for the rest see `pmq lock --help`.

Exit codes: the command's own, 128+n where signal n ended it; 75 busy (--nonblock); 76 the permit was lost while the \
command ran; 124 timed out; 126, 127 the command can't be run.

Example:
  pmq sem -n 3 downloads -- curl -O https://example.org/data";

/// Run a command while a permit of a semaphore is held
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Sem {
    /// The semaphore
    name: Name,

    /// How many commands may run at once
    #[arg(short, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    n: u64,

    #[command(flatten)]
    hold: Hold,
}

impl Sem {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let semaphore = context.connect().await?.semaphore(&self.name, self.n);
        let words = Words {
            kind: "semaphore",
            variable: "PMQ_SEMAPHORE",
        };
        self.hold.run(semaphore, words).await
    }
}
