//! `pmq run`: a command on the fleet, as if it ran here.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use clap::Args;
use pmq_broker::{Name, Process};

use super::submit::options::{absolute, pair};
use crate::context::Context;
use crate::duration;
use crate::exit::Exit;
use crate::map::signals::StopSignals;
use crate::process::attended::Attended;
use crate::process::place::Place;

const AFTER_HELP: &str = "\
Its standard output and standard error arrive here on the same streams; its standard input is empty. Ctrl-C or \
SIGTERM terminates it, a second one kills it; it is terminated as well where nobody reads on, as in `pmq run ... | head -1`, \
and ends, within its lease, where this command is killed. It waits for a slow reader as at a full pipe; once terminated, what \
nobody reads within 1 s is dropped.

Without --redis URL and -q it runs in a local worker of its own, in this directory and with this environment.

Exit codes: the command's own, 128+n where signal n ended it; 69 where no worker had a free slot in time; 124 where \
the time is up; 126, 127 the command can't be run; 141 nobody reads its output.

With --json nothing is streamed: one object tells its end, with the fields of `pmq get` for a completion; with --detach \
its id.

Examples:
  pmq run -- hostname
  pmq run -q big --cwd /data --env LEVEL=9 -- ./convert a b
  id=$(pmq run -q big --detach -- ./server); pmq kill \"$id\"";

/// Run a command on the fleet as if it ran here.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Run {
    /// The command and its arguments, which no shell reads
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,

    /// The task queue of the fleet [default: default]
    #[arg(short, long, value_name = "Q")]
    queue: Option<Name>,

    /// Its name, for `pmq ps`
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Run it in this directory of its host [default: locally the current one, on a fleet a private one]
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,

    /// Set a variable of its environment, as NAME=VALUE; may be given more than once
    #[arg(long, value_name = "K=V", value_parser = pair)]
    env: Vec<(String, String)>,

    /// Terminate it after this long
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,

    /// How long to wait for a worker with a free slot
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "30s")]
    start_timeout: Duration,

    /// Print its id, and leave it running
    #[arg(short, long)]
    detach: bool,
}

impl Run {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let signals = StopSignals::catch()?;
        let cwd = self.cwd.as_deref().map(absolute).transpose()?;
        // What is left behind needs a worker that stays.
        let is_alone = context.config.url.is_none() && self.queue.is_none() && !self.detach;
        let place = if is_alone {
            Place::here(context).await?
        } else {
            let default = Name::new("default")?;
            Place::on_fleet(context, self.queue.as_ref().unwrap_or(&default)).await?
        };
        let detach = self.detach;
        let attended = Attended {
            limit: self.timeout,
            process: self
                .process(&place, cwd)
                .attended(!detach && !context.output.is_json()),
            place,
            signals,
            output: context.output,
        };
        if detach {
            attended.start().await
        } else {
            attended.run().await
        }
    }

    fn process(self, place: &Place, cwd: Option<String>) -> Process {
        let mut process = Process::command(self.command.into_iter().map(OsString::into_vec))
            .queue(place.queue.name().clone())
            .tied(!self.detach)
            .start_timeout(self.start_timeout)
            .cwd(cwd.unwrap_or_else(|| place.cwd.clone()));
        if self.detach
            && let Some(timeout) = self.timeout
        {
            process = process.timeout(timeout);
        }
        if let Some(name) = self.name {
            process = process.name(name);
        }
        for (name, value) in self.env {
            process = process.env(name, value);
        }
        process
    }
}
