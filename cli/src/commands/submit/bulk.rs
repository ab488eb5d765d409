//! Many tasks, one a line, that can be resumed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::Context as _;
use pmq_broker::{Task, envelope};

use super::batch::Batch;
use super::input::{Input, Line};
use super::json_line::JsonLine;
use super::options::TaskOptions;
use super::progress::Progress;
use super::sender::Sender;
use super::work::Kind;
use crate::map::input::Job;
use crate::output::note;
use crate::plural::counted;

/// How lines become tasks.
pub(super) struct Bulk<'a> {
    pub(super) batch: Batch,
    pub(super) kind: Kind,
    pub(super) options: &'a TaskOptions,
}

impl Bulk<'_> {
    /// Submits a task for each line. After an error it says what is in, and how to go on.
    pub(super) async fn run(&self, input: Input, mut sender: Sender) -> anyhow::Result<()> {
        let sent = self.send(input, &mut sender).await;
        if sent.is_err() {
            note(&format!(
                "note: {} went in before this; to go on, run the same again with --batch {}: what is in stays as it is",
                counted(sender.accepted, "task"),
                self.batch
            ));
        }
        sent
    }

    async fn send(&self, mut input: Input, sender: &mut Sender) -> anyhow::Result<()> {
        let progress = Progress::new(input.size);
        while let Some(lines) = input.next().await? {
            let bytes: usize = lines.iter().map(|line| line.bytes.len() + 1).sum();
            let now_ms = sender.queue().broker().server_time_ms().await?;
            let (tasks, bad) = self.tasks(lines, now_ms);
            sender.send(&tasks).await?;
            progress.advance(bytes as u64, sender.accepted);
            if let Some(error) = bad {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The tasks up to the first line that is none.
    fn tasks(&self, lines: Vec<Line>, now_ms: u64) -> (Vec<Task>, Option<anyhow::Error>) {
        let mut tasks = Vec::with_capacity(lines.len());
        for line in lines {
            let number = line.number;
            match self
                .task(&line, now_ms)
                .with_context(|| format!("line {number}"))
            {
                Ok(task) => tasks.push(task),
                Err(error) => return (tasks, Some(error)),
            }
        }
        (tasks, None)
    }

    fn task(&self, line: &Line, now_ms: u64) -> anyhow::Result<Task> {
        let derived = |key| self.batch.id(line.number, &line.bytes, key);
        let task = match &self.kind {
            Kind::Json => {
                let line = JsonLine::parse(&line.bytes)?;
                let given = line.id();
                let task = line.task(self.options, now_ms)?;
                let id = given.unwrap_or_else(|| derived(task.key));
                task.with_id(id)
            }
            Kind::Argument(template) => {
                let job = Job {
                    seq: line.number,
                    args: vec![OsStr::from_bytes(&line.bytes).to_owned()],
                };
                let argv = template.expand(&job);
                let mut task = Task::command(argv.iter().map(|word| word.as_bytes()));
                self.options.apply(&mut task, now_ms)?;
                let id = derived(task.key);
                task.with_id(id)
            }
        };
        // Checks its limits, so that an error names the line.
        envelope::encode(&task)?;
        Ok(task)
    }
}
