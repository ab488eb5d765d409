//! What a task runs, from the command line: a command, or a handler's name and arguments.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;

use anyhow::Context as _;
use clap::Args;
use pmq_broker::Task;
use pmq_broker::task::BODY_LIMIT;
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::map::template::Template;

/// What to run.
#[derive(Args, Debug)]
pub(super) struct WorkArgs {
    /// The command and its arguments, which no shell reads
    #[arg(last = true, value_name = "CMD", conflicts_with_all = ["name", "from_json"])]
    command: Vec<OsString>,

    /// The name of a handler, instead of a command
    #[arg(long, value_name = "TASK", conflicts_with_all = ["each_line", "from_json"])]
    name: Option<String>,

    /// The handler's arguments, as JSON [default: null]
    #[arg(
        long,
        value_name = "JSON",
        requires = "name",
        conflicts_with = "command",
        allow_hyphen_values = true
    )]
    args: Option<String>,

    /// A file or standard input (-) that is the task's body as it is
    #[arg(
        long,
        value_name = "FILE|-",
        requires = "name",
        conflicts_with_all = ["args", "command"]
    )]
    body: Option<String>,

    /// The body's type, where it is not JSON
    #[arg(
        long,
        value_name = "TYPE",
        requires = "body",
        conflicts_with = "command"
    )]
    content_type: Option<String>,
}

/// What the lines of a bulk are.
pub(super) enum Kind {
    /// An argument of a command.
    Argument(Template),
    /// A task.
    Json,
}

impl WorkArgs {
    /// The one task.
    pub(super) fn task(&self) -> anyhow::Result<Task> {
        let Some(name) = &self.name else {
            if self.command.is_empty() {
                return Err(Failure::usage("there is nothing to run")
                    .with_hint(
                        "write `pmq submit -- CMD ARG...` or `pmq submit --name TASK --args JSON`",
                    )
                    .into());
            }
            return Ok(Task::command(bytes(&self.command)));
        };
        if name.is_empty() {
            return Err(Failure::usage("a task's name is not empty").into());
        }
        let mut task = Task::handler(name, self.body()?);
        task.details.content_type = self.content_type.clone().unwrap_or_default();
        Ok(task)
    }

    /// The command for each line.
    pub(super) fn each_line(&self) -> anyhow::Result<Kind> {
        let template =
            Template::argv(&self.command).map_err(|error| Failure::usage(error.to_string()))?;
        template
            .check_sources(1)
            .map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Kind::Argument(template))
    }

    fn body(&self) -> anyhow::Result<Vec<u8>> {
        if let Some(path) = &self.body {
            let body = read(path).with_context(|| format!("could not read {path}"))?;
            if self.content_type.is_none() && serde_json::from_slice::<&RawValue>(&body).is_err() {
                return Err(Failure::usage("the body is no JSON")
                    .with_hint("say what it is with --content-type")
                    .into());
            }
            return Ok(body);
        }
        let args = self.args.as_deref().unwrap_or("null");
        if let Err(error) = serde_json::from_str::<&RawValue>(args) {
            return Err(Failure::usage(format!("--args is no JSON: {error}"))
                .with_hint("a text needs quotes of its own: --args '\"text\"'")
                .into());
        }
        Ok(args.as_bytes().to_vec())
    }
}

fn bytes(words: &[OsString]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.clone().into_vec()).collect()
}

/// Reads no more than what tells that it is too much.
fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let limit = BODY_LIMIT as u64 + 1;
    if path == "-" {
        io::stdin().take(limit).read_to_end(&mut body)?;
    } else {
        fs::File::open(path)?.take(limit).read_to_end(&mut body)?;
    }
    Ok(body)
}
