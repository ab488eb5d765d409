//! `pmq map`: a command for each line of the input, on this machine or on a fleet.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;

use crate::context::Context;
use crate::duration;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::map::bar::Bar;
use crate::map::feed::{Feed, Step};
use crate::map::halt::{Halt, Policy};
use crate::map::output::Tag;
use crate::map::place::PlaceFlags;
use crate::map::plan::{InputFlags, LogFlags, Plan};
use crate::map::quote;
use crate::map::recipe::Recipe;
use crate::map::report::{Form, Reporter};
use crate::map::session::{Session, Todo};
use crate::map::signals::StopSignals;
use crate::output::{Output, unwritten};

/// With `-k` so many times the jobs that may be under way may have ended before their turn.
const ORDER: usize = 4;

const AFTER_HELP: &str = "\
Replacement strings in CMD; without any the argument is appended:
  {}         the argument
  {.}        without its extension
  {/}        its basename
  {//}       its directory
  {/.}       its basename without extension
  {#}        the number of the job
  {1} {2.}   the argument of the first source, the second, ...

Sources: `::: ARG...` and `:::: FILE...`; several are combined, or linked to the one before with a + behind (`:::+`). \
Without any each line of stdin is a job.

Without --redis URL and -q the jobs run in local workers, in this directory and with this environment. Of what a job \
prints the first and the last 512 KiB of each stream are shown.

Exit codes: 0 all jobs succeeded; 1-100 so many failed; 101 more than 100; with --halt the job's own; 130 stopped by \
Ctrl-C, which cancels what is queued and running.

Examples:
  ls *.log | pmq map -j 4 --bar -- gzip -9 -k {}
  pmq map -k --tag -- wc -l {} ::: *.txt
  pmq map -q big --cwd /data --joblog log --resume -- ./convert {} :::: names";

/// Run a command for each line of stdin, or each argument after `:::`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Map {
    /// Stop early: now,fail=1 stops what runs when one job failed; soon,fail=10% starts no more; also success=, done=
    #[arg(long, value_name = "WHEN", default_value = "never")]
    halt: Policy,

    /// Print the commands and run nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    place: PlaceFlags,

    #[command(flatten)]
    task: TaskFlags,

    #[command(flatten)]
    shown: ShownFlags,

    #[command(flatten)]
    log: LogFlags,

    #[command(flatten)]
    input: InputFlags,
}

/// Flags about each task.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Task")]
struct TaskFlags {
    /// How often a job may fail before it has failed
    #[arg(long, visible_alias = "retries", value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    attempts: u16,

    /// How long a job may take, as 1.5s, 10m or 2h [default: no limit]
    #[arg(long, value_name = "D", value_parser = duration::parse)]
    timeout: Option<Duration>,

    /// 0 to 9, higher first
    #[arg(short, long, value_name = "P", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u8).range(..=9))]
    priority: u8,

    /// Set a variable of the jobs' environment; may be repeated
    #[arg(long, value_name = "K=V", value_parser = variable)]
    env: Vec<(String, String)>,
}

/// Flags about what is shown.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Output")]
struct ShownFlags {
    /// Print the output in the order of the input
    #[arg(short, long)]
    keep_order: bool,

    /// Put the arguments and a tab before each line of output
    #[arg(long)]
    tag: bool,

    /// Put STR and a tab before each line of output; may hold replacement strings
    #[arg(long, value_name = "STR", conflicts_with = "tag")]
    tagstring: Option<String>,

    /// Show a progress bar on standard error
    #[arg(long)]
    bar: bool,
}

impl Map {
    /// Runs the jobs.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let form = self.shown.form(context.output)?;
        let Plan { steps, joblog } = Plan::open(self.input, self.log)?;
        if self.dry_run {
            return print_commands(steps);
        }
        let signals = StopSignals::catch()?;
        let place = self.place.open(context).await?;
        let mut reporter = Reporter::new(form, Bar::new(self.shown.bar), place.workers.is_some());
        if self.shown.keep_order {
            reporter = reporter.in_order(place.window * ORDER);
        }
        if let Some(joblog) = joblog {
            reporter = reporter.with_joblog(joblog);
        }
        let session = Session::open(place).await?;
        let todo = Todo {
            feed: Feed::start(steps, self.halt.needs_total())?,
            recipe: self.task.recipe(&session),
            reporter,
            halt: Halt::new(self.halt),
        };
        session.run(todo, signals).await
    }
}

impl TaskFlags {
    fn recipe(self, session: &Session) -> Recipe {
        let place = session.place();
        Recipe {
            owner: session.owner(),
            completions: place.completions.clone(),
            attempts: self.attempts,
            timeout: self.timeout,
            priority: self.priority,
            cwd: place.cwd.clone(),
            env: self.env,
        }
    }
}

impl ShownFlags {
    fn form(&self, output: Output) -> anyhow::Result<Form> {
        if output.is_json() {
            return Ok(Form::Json);
        }
        let tag = match &self.tagstring {
            Some(text) => Some(Tag::string(text)),
            None => self.tag.then(Tag::arguments),
        };
        let tag = tag.transpose();
        Ok(Form::Text(
            tag.map_err(|error| Failure::usage(error.to_string()))?,
        ))
    }
}

/// Writes each command as a line that a shell reads back as the same words.
fn print_commands(steps: impl Iterator<Item = anyhow::Result<Step>>) -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    for step in steps {
        let mut line = quote::line(&step?.command);
        line.push(b'\n');
        out.write_all(&line).map_err(unwritten)?;
    }
    out.flush().map_err(unwritten)?;
    Ok(Exit::OK)
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}
