//! `pmq get`: completions from a completion queue, one a line.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use pmq_broker::task_queue::{CHUNK, Consumer};
use pmq_broker::{Completion, Name};
use tokio::time::Instant;

use crate::completion_record::{self, CompletionRecord};
use crate::context::Context;
use crate::duration;
use crate::exit::Exit;
use crate::output::Output;

const AFTER_HELP: &str = "\
A completion is confirmed once its line has left this process; if pmq is killed before, it comes again.

JSON fields: id, outcome (ok, failed, dead, cancelled), attempt, worker, exit (minus the signal where one ended it), \
stdout, stderr, result, error, queued, started, finished. Where output is not UTF-8, stdout_base64 and \
stderr_base64 hold the exact bytes.

Exit codes: 0 got something; 75 nothing there, or nothing came in time.

Examples:
  pmq submit -q mail --completions done -- echo hi
  pmq worker -q mail --burst        # or one that is up runs it
  pmq get mail/done --timeout 10s
  pmq get mail/done -n 100 --json | jq -r .stdout
  pmq get mail/done --follow --json >> completions.jsonl";

/// Get completions from a completion queue, waiting until one is there.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Get {
    /// The completion queue NAME of task queue Q
    #[arg(value_name = "Q/NAME")]
    from: From,

    /// Take what is there, and do not wait
    #[arg(long, conflicts_with_all = ["timeout", "follow"])]
    nowait: bool,

    /// How many to get
    #[arg(short, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    n: u64,

    /// Wait no longer than this, and print what came until then
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    timeout: Option<Duration>,

    /// Go on for ever
    #[arg(short, long, conflicts_with = "n")]
    follow: bool,
}

/// A completion queue: `Q/NAME`.
#[derive(Debug, Clone)]
struct From {
    queue: Name,
    name: Name,
}

impl std::str::FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (queue, name) = text
            .split_once('/')
            .ok_or("write Q/NAME: the task queue, a slash, and its completion queue")?;
        Ok(Self {
            queue: Name::new(queue).map_err(|error| error.to_string())?,
            name: Name::new(name).map_err(|error| error.to_string())?,
        })
    }
}

fn at_least_one(text: &str) -> Result<u64, String> {
    let n = text.parse().ok().filter(|n| *n > 0);
    n.ok_or_else(|| "a number, at least 1".to_owned())
}

impl Get {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let broker = context.connect().await?;
        let queue = broker.task_queue(&self.from.queue);
        let mut consumer = queue.completions(&self.from.name);
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let want = if self.follow { u64::MAX } else { self.n };
        let mut got = 0;
        while got < want {
            let n = (want - got).min(CHUNK as u64) as usize;
            let completions = self.next(&mut consumer, n, deadline).await?;
            if completions.is_empty() {
                break;
            }
            print(&completions, context.output)?;
            got += completions.len() as u64;
        }
        // Only now, as what was printed is out of this process's hands.
        consumer.close().await?;
        Ok(if got == 0 { Exit::TRY_AGAIN } else { Exit::OK })
    }

    /// The next completions; none where there are none, or none came in time.
    async fn next(
        &self,
        consumer: &mut Consumer,
        n: usize,
        deadline: Option<Instant>,
    ) -> pmq_broker::Result<Vec<Completion>> {
        loop {
            let left = match deadline {
                _ if self.nowait => Duration::ZERO,
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            let completions = consumer.get_many(n, left).await?;
            if !completions.is_empty() || self.nowait || deadline.is_some() {
                return Ok(completions);
            }
        }
    }
}

fn print(completions: &[Completion], output: Output) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for completion in completions {
        if output.is_json() {
            serde_json::to_writer(&mut lines, &CompletionRecord::new(completion))?;
            lines.push(b'\n');
        } else {
            writeln!(lines, "{}", completion_record::line(completion, output))?;
        }
    }
    Ok(output.raw(&lines)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_queue_is_written_with_its_task_queue() {
        let from: From = "mail.fast/done".parse().unwrap();
        assert_eq!(
            (from.queue.as_str(), from.name.as_str()),
            ("mail.fast", "done")
        );
        for bad in ["done", "/done", "mail/", "a/b/c", "A/b"] {
            assert!(bad.parse::<From>().is_err(), "{bad}");
        }
    }
}
