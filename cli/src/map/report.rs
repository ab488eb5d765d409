//! What is shown of the jobs that ended: their output, the joblog, the bar.
use std::io::{self, Write};

use pmq_broker::Completion;
use serde::Serialize;

use super::bar::Bar;
use super::feed::Step;
use super::joblog::{Entry, Joblog};
use super::order::InOrder;
use super::output::{Output, Tag};
use super::verdict::Verdict;
use crate::completion_record::CompletionRecord;
use crate::output::{note, unwritten};

/// How many bytes of output may wait for the output of a job before them; then no more jobs are started.
const HELD: usize = 64 << 20;

/// A job that ended.
#[derive(Debug)]
pub struct Ended {
    /// The job.
    pub step: Step,
    /// What its worker told.
    pub completion: Completion,
    /// How it ended.
    pub verdict: Verdict,
}

/// How a job that ended is written.
#[derive(Debug)]
pub enum Form {
    /// Its output, each line with a tag in front if there is one.
    Text(Option<Tag>),
    /// Its completion as a line of JSON.
    Json,
}

/// Shows jobs as they end, or in the order of the input.
#[derive(Debug)]
pub struct Reporter {
    form: Form,
    order: Option<InOrder<Option<Ended>>>,
    held: usize,
    joblog: Option<Joblog>,
    /// Whether the jobs run on this machine, which the joblog writes as `:`.
    local: bool,
    bar: Bar,
}

impl Reporter {
    /// A reporter that shows jobs as they end.
    #[must_use]
    pub fn new(form: Form, bar: Bar, local: bool) -> Self {
        Self {
            form,
            order: None,
            held: 0,
            joblog: None,
            local,
            bar,
        }
    }

    /// Shows jobs in the order of the input (`-k`), with at most `window` of them waiting.
    #[must_use]
    pub fn in_order(mut self, window: usize) -> Self {
        self.order = Some(InOrder::new(window));
        self
    }

    /// Also writes a joblog.
    #[must_use]
    pub fn with_joblog(mut self, joblog: Joblog) -> Self {
        self.joblog = Some(joblog);
        self
    }

    /// Whether there is room for the output of more jobs.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.held < HELD && self.order.as_ref().is_none_or(|order| !order.is_full())
    }

    /// A job is about to be started.
    pub fn expect(&mut self, seq: u64) {
        if let Some(order) = &mut self.order {
            order.expect(seq);
        }
    }

    /// A job ended.
    pub fn ended(&mut self, ended: Ended) -> anyhow::Result<()> {
        self.log(&ended)?;
        self.bar.count(ended.verdict.exit.is_success());
        match &mut self.order {
            None => self.show(&ended),
            Some(order) => {
                self.held += ended.completion.body.len();
                order.put(ended.step.job.seq, Some(ended));
                self.show_ready()
            }
        }
    }

    /// A job was expected, and never ran to its end.
    pub fn skipped(&mut self, seq: u64) -> anyhow::Result<()> {
        if let Some(order) = &mut self.order {
            order.put(seq, None);
        }
        self.show_ready()
    }

    /// Shows what is left when the run ends early.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let rest = self.order.take().map(InOrder::into_ready);
        for (_, ended) in rest.into_iter().flatten() {
            ended.map_or(Ok(()), |ended| self.show(&ended))?;
        }
        Ok(())
    }

    /// How many jobs there are, once that is known.
    pub fn set_total(&mut self, total: Option<u64>) {
        self.bar.set_total(total);
    }

    /// Tells the user something on standard error.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| note(text));
    }

    /// Tells how far the run came, and how to go on with it.
    pub fn note_interruption(&self, summary: &str) {
        // The bar stays above the last words.
        self.bar.leave();
        match &self.joblog {
            Some(joblog) => {
                let path = joblog.path().display();
                note(&format!("{summary}; resume with --joblog {path} --resume"));
            }
            None => note(summary),
        }
    }

    fn show_ready(&mut self) -> anyhow::Result<()> {
        while let Some((_, ended)) = self.order.as_mut().and_then(InOrder::next_ready) {
            if let Some(ended) = ended {
                self.held -= ended.completion.body.len();
                self.show(&ended)?;
            }
        }
        Ok(())
    }

    fn show(&self, ended: &Ended) -> anyhow::Result<()> {
        match &self.form {
            Form::Json => self.bar.suspend(|| write_json(ended)),
            Form::Text(tag) => {
                let prefix = tag.as_ref().map(|tag| tag.prefix(&ended.step.job));
                let prefix = prefix.unwrap_or_default();
                self.bar.suspend(|| write_text(ended, &prefix))?;
                if let Some(why) = &ended.verdict.why {
                    let Step { job, .. } = &ended.step;
                    self.note(&format!("job {} ({}): {why}", job.seq, ended.step.line()));
                }
                Ok(())
            }
        }
    }

    fn log(&mut self, ended: &Ended) -> anyhow::Result<()> {
        let Some(joblog) = &mut self.joblog else {
            return Ok(());
        };
        let completion = &ended.completion;
        let ran_us = completion.finished_us.saturating_sub(completion.started_us);
        let ran = completion.started_us > 0;
        joblog.append(&Entry {
            seq: ended.step.job.seq,
            host: if self.local || completion.worker.is_empty() {
                ":"
            } else {
                &completion.worker
            },
            started_ms: completion.started_us / 1000,
            runtime_ms: if ran { ran_us / 1000 } else { 0 },
            sent: 0,
            received: completion.output().0.len() as u64,
            exit: ended.verdict.exit,
            command: &ended.step.command,
        })?;
        Ok(())
    }
}

fn write_text(ended: &Ended, prefix: &[u8]) -> io::Result<()> {
    let (stdout, stderr) = ended.completion.output();
    let output = Output { stdout, stderr };
    let written = output.write(prefix, &mut io::stdout().lock(), &mut io::stderr().lock());
    written.map_err(unwritten)
}

/// The completion as `pmq get` prints it, and which job it was.
#[derive(Serialize)]
struct Record<'a> {
    seq: u64,
    command: String,
    #[serde(flatten)]
    completion: CompletionRecord<'a>,
}

fn write_json(ended: &Ended) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(&Record {
        seq: ended.step.job.seq,
        command: ended.step.line(),
        completion: CompletionRecord::new(&ended.completion),
    })?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    let written = out.write_all(&line).and_then(|()| out.flush());
    Ok(written.map_err(unwritten)?)
}
