//! The run: keeps a window of jobs under way until the input ends or something stops it.
use std::collections::HashMap;

use anyhow::Context;
use pmq_broker::task_queue::Signal;
use pmq_broker::{Completion, Outcome, TaskId};

use super::events::{Event, Events};
use super::feed::Step;
use super::halt::{Decision, Halt};
use super::recipe::Recipe;
use super::report::{Ended, Reporter};
use super::submitter::{News, Submitter};
use super::verdict::Verdict;
use crate::exit::Exit;

/// The most jobs that are started at once: what one call submits.
const CHUNK: usize = 500;

/// A run of `pmq map`: what it has to do, and how far it is.
#[derive(Debug)]
pub struct Run {
    /// How a job becomes a task.
    pub recipe: Recipe,
    /// Where tasks go.
    pub submitter: Submitter,
    /// Where their ends are shown.
    pub reporter: Reporter,
    /// When to stop early, and how to exit.
    pub halt: Halt,
    /// How far it may go at once.
    pub limits: Limits,
    /// How far it is.
    pub progress: Progress,
}

/// How far a run may go at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many jobs may be under way.
    pub window: usize,
    /// How many of them can run at once; the others are ready for when these end.
    pub slots: usize,
    /// Whether the queue is this run's alone, so that all that waits in it may be cancelled.
    pub owns_queue: bool,
}

/// How far a run is.
#[derive(Debug, Default)]
pub struct Progress {
    /// The jobs under way.
    flight: HashMap<TaskId, Step>,
    phase: Phase,
    tally: Tally,
}

/// What a run is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// It starts jobs.
    #[default]
    Feeding,
    /// All jobs are started; it waits for their ends.
    Ending,
    /// It was told by `--halt` to start no more jobs, and waits for those that run.
    Draining,
    /// It was told by `--halt` to stop those that run as well.
    Halting,
    /// The user stopped it.
    Interrupted,
}

/// What became of the jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    /// Jobs that ran to their end.
    done: u64,
    /// Jobs that were stopped while they ran.
    stopped: u64,
}

impl Phase {
    /// Whether jobs are cancelled by this run, so that their ends are no failures.
    fn withdraws(self) -> bool {
        matches!(self, Self::Draining | Self::Halting | Self::Interrupted)
    }
}

impl Limits {
    /// How many jobs to start when so many are under way: none until half of those ahead are gone, so that one call
    /// submits many.
    fn room(self, under_way: usize) -> usize {
        let room = self.window.saturating_sub(under_way);
        let ahead = self.window.saturating_sub(self.slots);
        if room > ahead / 2 { room } else { 0 }
    }
}

impl Run {
    /// Runs until all jobs have ended. An error leaves the jobs under way cancelled.
    pub async fn to_end(&mut self, events: &mut Events) -> anyhow::Result<Exit> {
        let ended = self.turn(events).await;
        if ended.is_err() {
            self.stop(Phase::Halting, Signal::Terminate);
        }
        ended.and(self.reporter.finish())?;
        if self.progress.phase == Phase::Interrupted {
            let summary = self.progress.tally.summary(events.feed.total());
            self.reporter.note_interruption(&summary);
            return Ok(Exit::INTERRUPTED);
        }
        Ok(Exit::of_jobs(self.halt.exit_code()))
    }

    async fn turn(&mut self, events: &mut Events) -> anyhow::Result<()> {
        let mut bad_input = None;
        while self.progress.phase == Phase::Feeding || !self.progress.flight.is_empty() {
            let event = events.next(self.room()).await;
            self.reporter.set_total(events.feed.total());
            match event {
                Event::Steps(steps) if steps.is_empty() => self.progress.phase = Phase::Ending,
                Event::Steps(steps) => {
                    if let Err(error) = self.start(steps) {
                        bad_input = Some(error);
                        self.progress.phase = Phase::Ending;
                    }
                }
                Event::Ended(completions) => self.settle(completions, events.feed.total())?,
                Event::News(news) => self.hear(news)?,
                Event::Interrupted if self.progress.phase == Phase::Interrupted => {
                    self.progress.tally.stopped += self.progress.flight.len() as u64;
                    self.stop(Phase::Interrupted, Signal::Kill);
                    break;
                }
                Event::Interrupted => {
                    self.reporter
                        .note("stopping; once more to kill what runs and leave");
                    self.stop(Phase::Interrupted, Signal::Terminate);
                }
                Event::Failed(error) => return Err(error),
            }
        }
        bad_input.map_or(Ok(()), Err)
    }

    fn room(&self) -> usize {
        if self.progress.phase != Phase::Feeding || !self.reporter.has_room() {
            return 0;
        }
        self.limits.room(self.progress.flight.len()).min(CHUNK)
    }

    /// Starts the jobs before the first error.
    fn start(&mut self, steps: Vec<anyhow::Result<Step>>) -> anyhow::Result<()> {
        let mut tasks = Vec::with_capacity(steps.len());
        let mut error = None;
        for step in steps {
            match step {
                Ok(step) => {
                    let task = self.recipe.task(&step);
                    self.reporter.expect(step.job.seq);
                    self.progress.flight.insert(task.id, step);
                    tasks.push(task);
                }
                Err(bad) => {
                    error = Some(bad);
                    break;
                }
            }
        }
        self.submitter.submit(tasks);
        error.map_or(Ok(()), Err)
    }

    fn settle(&mut self, completions: Vec<Completion>, total: Option<u64>) -> anyhow::Result<()> {
        let mut dead = Vec::new();
        for completion in completions {
            let Some(step) = self.progress.flight.remove(&completion.id) else {
                continue;
            };
            if matches!(completion.outcome, Outcome::Failed | Outcome::Dead) {
                dead.push(completion.id);
            }
            if completion.outcome == Outcome::Cancelled && self.progress.phase.withdraws() {
                // One that never began has no attempt.
                self.progress.tally.stopped += u64::from(completion.attempt > 0);
                self.reporter.skipped(step.job.seq)?;
                continue;
            }
            self.progress.tally.done += 1;
            let verdict = Verdict::of(&completion);
            let exit = verdict.exit;
            self.reporter.ended(Ended {
                step,
                completion,
                verdict,
            })?;
            let decision = self.halt.observe(exit, total);
            self.heed(decision);
        }
        // The user has seen why they failed, and nobody else will requeue them: their owner goes.
        if !dead.is_empty() {
            self.submitter.forget(dead);
        }
        Ok(())
    }

    fn heed(&mut self, decision: Decision) {
        match decision {
            Decision::Soon if matches!(self.progress.phase, Phase::Feeding | Phase::Ending) => {
                self.progress.phase = Phase::Draining;
                if self.limits.owns_queue {
                    self.submitter.cancel_waiting();
                }
            }
            Decision::Now if matches!(self.progress.phase, Phase::Feeding | Phase::Ending) => {
                self.stop(Phase::Halting, Signal::Terminate);
            }
            _ => {}
        }
    }

    fn hear(&mut self, news: News) -> anyhow::Result<()> {
        match news {
            News::NotQueued(ids) => {
                for id in ids {
                    if let Some(step) = self.progress.flight.remove(&id) {
                        self.reporter.skipped(step.job.seq)?;
                    }
                }
                Ok(())
            }
            News::Trouble(error) => {
                self.reporter.note(&format!("{error}; trying again"));
                Ok(())
            }
            News::Failed(error) => Err(error).context("could not go on submitting tasks"),
        }
    }

    fn stop(&mut self, phase: Phase, signal: Signal) {
        self.progress.phase = phase;
        self.submitter.cancel(self.ids(), signal);
    }

    fn ids(&self) -> Vec<TaskId> {
        self.progress.flight.keys().copied().collect()
    }
}

impl Tally {
    /// What the user stopped, in a sentence.
    fn summary(self, total: Option<u64>) -> String {
        let Self { done, stopped } = self;
        let rest = match total {
            Some(total) => (total.saturating_sub(done + stopped)).to_string(),
            None => "the rest".to_owned(),
        };
        format!("cancelled: {done} done, {stopped} stopped, {rest} not started")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_ahead_are_started_many_at_once_and_those_that_could_run_one_by_one() {
        let limits = |slots| Limits {
            window: 10,
            slots,
            owns_queue: true,
        };
        assert_eq!(
            [0, 1, 5, 6, 10].map(|n| limits(2).room(n)),
            [10, 9, 5, 0, 0]
        );
        assert_eq!([0, 9, 10].map(|n| limits(10).room(n)), [10, 1, 0]);
    }

    #[test]
    fn the_summary_counts_what_it_can() {
        let tally = Tally {
            done: 12,
            stopped: 3,
        };
        assert_eq!(
            tally.summary(Some(1000)),
            "cancelled: 12 done, 3 stopped, 985 not started"
        );
        assert_eq!(
            tally.summary(None),
            "cancelled: 12 done, 3 stopped, the rest not started"
        );
    }
}
