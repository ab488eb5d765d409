//! `pmq submit`: tasks into a task queue, one or many.

mod batch;
mod bulk;
mod input;
mod json_line;
mod nobody;
pub(super) mod options;
mod progress;
mod sender;
mod work;

use clap::Args;
use pmq_broker::{TaskId, TaskQueue};

use crate::args::QueueFlag;
use crate::completion_record::CompletionRecord;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Output, note};
use batch::Batch;
use bulk::Bulk;
use input::Input;
use options::TaskOptions;
use sender::Sender;
use work::{Kind, WorkArgs};

const AFTER_HELP: &str = "\
Many at once: --each-line and --from-json read lines and print one id a line, in calls of at most 500 tasks that are \
taken whole or not at all. Ids follow from the batch's name, the line's number and the line, so the same input \
submitted again under the same --batch runs nothing twice: that is how to go on after a failure.

A line of --from-json is an object: name or argv; args (any JSON) or body and content_type; and if need be id, \
priority, delay, at, attempts, crashes, backoff, backoff_cap, timeout, expires, completions, keep, labels, env, cwd.

Exit codes: 0; 75 where the queue is full and --nowait is given; with --wait the task's own, 128+n for signal n.

A task waits until a worker runs it: `pmq worker` starts one.

Examples:
  pmq submit -- gzip -9 big.log
  pmq submit -q mail --name send --args '{\"to\": \"a@b.example\"}' --attempts 5
  pmq submit --wait -- sh -c 'echo hello; exit 3'
  ls *.wav | pmq submit -q audio --each-line - -- ffmpeg -i {} {.}.mp3
  pmq submit -q audio --from-json tasks.jsonl --batch monday";

/// Put tasks into a task queue, and print their ids.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Submit {
    #[command(flatten)]
    queue: QueueFlag,

    #[command(flatten)]
    work: WorkArgs,

    /// The task's id; the same task submitted again under it runs once
    #[arg(long, value_name = "UUID", conflicts_with_all = ["each_line", "from_json"])]
    id: Option<TaskId>,

    /// Wait for its end, print its output or result, and exit with its code
    #[arg(long, conflicts_with_all = ["each_line", "from_json"])]
    wait: bool,

    /// One task a line of a file or of standard input (-), which replaces {} in the command (or parts of it: {.} {/}
    /// {//} {/.}, as in GNU parallel), or is appended to it
    #[arg(
        long,
        value_name = "FILE|-",
        requires = "command",
        conflicts_with = "from_json",
        group = "bulk"
    )]
    each_line: Option<String>,

    /// One task a line of a file or of standard input (-), as JSON
    #[arg(long, value_name = "FILE|-", group = "bulk")]
    from_json: Option<String>,

    /// The name of this batch, to go on with it after a failure [default: a random one]
    #[arg(long, value_name = "NAME", requires = "bulk")]
    batch: Option<String>,

    /// Exit with 75 where the queue is full, and do not wait
    #[arg(long)]
    nowait: bool,

    #[command(flatten)]
    options: TaskOptions,
}

impl Submit {
    /// Runs it.
    pub async fn run(self: Box<Self>, context: &Context) -> anyhow::Result<Exit> {
        match self.each_line.as_ref().or(self.from_json.as_ref()) {
            Some(path) => self.many(path, context).await,
            None => self.one(context).await,
        }
    }

    async fn one(&self, context: &Context) -> anyhow::Result<Exit> {
        let mut task = self.work.task()?;
        if let Some(id) = self.id {
            task = task.with_id(id);
        }
        let broker = context.connect().await?;
        self.options
            .apply(&mut task, broker.server_time_ms().await?)?;
        let queue = broker.task_queue(&self.queue.queue);
        let mut sender = Sender::new(&queue, self.nowait, context.output);
        if self.wait {
            sender = sender.silent();
        }
        sender.send(std::slice::from_ref(&task)).await?;
        nobody::warn(&queue, Some(&task.work)).await;
        if self.wait {
            return wait(&queue, task.id, context.output).await;
        }
        Ok(Exit::OK)
    }

    async fn many(&self, path: &str, context: &Context) -> anyhow::Result<Exit> {
        let kind = match &self.from_json {
            Some(_) => Kind::Json,
            None => self.work.each_line()?,
        };
        let input = Input::open(path)?;
        let broker = context.connect().await?;
        let queue = broker.task_queue(&self.queue.queue);
        let batch = self
            .batch
            .as_deref()
            .map_or_else(Batch::random, Batch::named);
        if self.batch.is_none() {
            note(&format!(
                "batch {batch}: add --batch {batch} to go on with it after a failure"
            ));
        }
        nobody::warn(&queue, None).await;
        let bulk = Bulk {
            batch,
            kind,
            options: &self.options,
        };
        bulk.run(input, Sender::new(&queue, self.nowait, context.output))
            .await?;
        Ok(Exit::OK)
    }
}

/// Waits for the task's end, and prints what it printed.
async fn wait(queue: &TaskQueue, id: TaskId, output: Output) -> anyhow::Result<Exit> {
    let mut unfinished = Unfinished(Some(id));
    let completion = super::wait::until_one_ended(queue, id).await?;
    unfinished.0 = None;
    if output.is_json() {
        output.json(&CompletionRecord::new(&completion))?;
        return Ok(Exit::of_task(&completion));
    }
    let (stdout, stderr) = completion.output();
    output.raw(stdout)?;
    // Where standard error is closed nobody misses it.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), stderr);
    if let Some(result) = completion.result().filter(|result| !result.is_empty()) {
        output.raw(result)?;
        output.raw(b"\n")?;
    }
    if let Some(error) = &completion.report.error {
        note(&format!(
            "task {id} {}: {error}",
            completion.outcome.as_str()
        ));
    }
    Ok(Exit::of_task(&completion))
}

/// Tells how to stop a task that goes on although nobody waits for it any more.
struct Unfinished(Option<TaskId>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            note(&format!(
                "note: task {id} goes on; `pmq cancel {id}` stops it"
            ));
        }
    }
}
