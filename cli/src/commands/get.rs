//! `pmq get`: items from a plain queue, or completions from a completion queue, one a line.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use pmq_broker::task_queue::{CHUNK, Consumer};
use pmq_broker::{Broker, Completion, GetError, Name, RawQueue};
use serde_json::json;
use tokio::time::Instant;

use crate::completion_record::{self, CompletionRecord};
use crate::context::Context;
use crate::duration;
use crate::exit::Exit;
use crate::output::Output;

const AFTER_HELP: &str = "\
NAME is a queue into which `pmq put` or a program put items; each is printed as it is, with a newline. An item is gone \
once pmq has got it. Q/NAME is the completion queue NAME of task queue Q; a completion is confirmed once its line has \
left this process; if pmq is killed before, it comes again.

JSON fields of an item: item; where it is not UTF-8, item_base64 holds the exact bytes.

JSON fields of a completion: id, outcome (ok, failed, dead, cancelled), attempt, worker, exit (minus the signal where one ended it), \
stdout, stderr, result, error, queued, started, finished. Where output is not UTF-8, stdout_base64 and \
stderr_base64 hold the exact bytes.

Exit codes: 0 got something; 75 nothing there (--nowait); 124 nothing came in time (--timeout).

Examples:
  pmq put fruit apple && pmq get fruit
  pmq submit -q mail --completions done -- echo hi
  pmq worker -q mail --burst        # or one that is up runs it
  pmq get mail/done --timeout 10s
  pmq get mail/done -n 100 --json | jq -r .stdout
  pmq get mail/done --follow --json >> completions.jsonl";

/// Get items from a queue, or completions from a completion queue, waiting until one is there.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Get {
    /// The queue; or Q/NAME, the completion queue NAME of task queue Q
    #[arg(value_name = "NAME")]
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

/// A plain queue `NAME`, or a completion queue `Q/NAME`.
#[derive(Debug, Clone)]
enum From {
    Queue(Name),
    Completions { queue: Name, name: Name },
}

impl std::str::FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = |text: &str| Name::new(text).map_err(|error| error.to_string());
        Ok(match text.split_once('/') {
            None => Self::Queue(name(text)?),
            Some((queue, done)) => Self::Completions {
                queue: name(queue)?,
                name: name(done)?,
            },
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
        let mut source = Source::open(&broker, &self.from);
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let want = if self.follow { u64::MAX } else { self.n };
        let mut got = 0;
        while got < want {
            let n = (want - got).min(CHUNK as u64) as usize;
            let count = source
                .print_next(n, self.left(deadline), context.output)
                .await?;
            got += count as u64;
            if count == 0 && (self.nowait || deadline.is_some()) {
                break;
            }
        }
        // Only now, as what was printed is out of this process's hands.
        source.close().await?;
        Ok(match got {
            0 if self.nowait => Exit::TRY_AGAIN,
            0 => Exit::TIMED_OUT,
            _ => Exit::OK,
        })
    }

    /// How long to wait for more.
    fn left(&self, deadline: Option<Instant>) -> Duration {
        match deadline {
            _ if self.nowait => Duration::ZERO,
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            None => Duration::from_secs(3600),
        }
    }
}

/// Where it gets from.
enum Source {
    Queue(RawQueue),
    Completions(Box<Consumer>),
}

impl Source {
    fn open(broker: &Broker, from: &From) -> Self {
        match from {
            From::Queue(name) => Self::Queue(broker.raw_queue(name)),
            From::Completions { queue, name } => {
                Self::Completions(Box::new(broker.task_queue(queue).completions(name)))
            }
        }
    }

    /// Prints up to `n` as soon as there is one; answers how many, none where none came in time.
    async fn print_next(
        &mut self,
        n: usize,
        wait: Duration,
        output: Output,
    ) -> anyhow::Result<usize> {
        match self {
            Self::Completions(consumer) => {
                let completions = consumer.get_many(n, wait).await?;
                print(&completions, output)?;
                Ok(completions.len())
            }
            Self::Queue(queue) => match queue.get_many_timeout(n, wait).await {
                Ok(items) => {
                    print_items(&items, output)?;
                    Ok(items.len())
                }
                Err(GetError::Empty) => Ok(0),
                Err(GetError::Broker(error)) => Err(error.into()),
                Err(error) => Err(error.into()),
            },
        }
    }

    async fn close(self) -> pmq_broker::Result<()> {
        match self {
            Self::Completions(consumer) => consumer.close().await,
            Self::Queue(_) => Ok(()),
        }
    }
}

fn print_items(items: &[Bytes], output: Output) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for item in items {
        if output.is_json() {
            let mut record = json!({"item": String::from_utf8_lossy(item)});
            if let Some(exact) = completion_record::unless_text(item) {
                record["item_base64"] = json!(exact);
            }
            serde_json::to_writer(&mut lines, &record)?;
        } else {
            lines.extend_from_slice(item);
        }
        lines.push(b'\n');
    }
    Ok(output.raw(&lines)?)
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
        assert!(matches!("done".parse(), Ok(From::Queue(name)) if name.as_str() == "done"));
        let From::Completions { queue, name } = "mail.fast/done".parse().unwrap() else {
            panic!("it has a slash");
        };
        assert_eq!((queue.as_str(), name.as_str()), ("mail.fast", "done"));
        for bad in ["", "/done", "mail/", "a/b/c", "A/b", "A"] {
            assert!(bad.parse::<From>().is_err(), "{bad}");
        }
    }
}
