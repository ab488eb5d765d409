//! Submits tasks of all kinds, and each call again until its answer is known.

use std::time::Duration;

use anyhow::Result;
use pmq_broker::task_queue::{Signal, Submitted};
use pmq_broker::{Due, Error, Retry, Task, TaskId, TaskQueue};

use super::body::{Body, hash};
use super::worker::HANDLER;
use super::{Mix, Stage, name};
use crate::history::{Known, Planned, What};

const BEAT: Duration = Duration::from_millis(100);
const AGAIN: Duration = Duration::from_millis(200);
/// How often a call is made again whose answer did not come, once the process is asked to end.
const LAST_TRIES: u32 = 50;

/// A producer at work.
pub(super) struct Producer<'a> {
    stage: &'a Stage,
    mix: Mix,
    rng: fastrand::Rng,
    ops: u64,
    /// The last tasks, to be submitted again or cancelled.
    last: Vec<Task>,
}

impl<'a> Producer<'a> {
    pub(super) fn new(stage: &'a Stage, mix: Mix) -> Self {
        Self {
            stage,
            mix,
            rng: stage.rng(),
            ops: 0,
            last: Vec::new(),
        }
    }

    /// Submits until it is asked to end.
    pub(super) async fn play(mut self, queues: &[String], rate: u64) -> Result<()> {
        let queues: Vec<TaskQueue> = queues
            .iter()
            .map(|queue| self.stage.broker.task_queue(&name(queue)))
            .collect();
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.stage.stop.is_cancelled() {
            beat.tick().await;
            let queue = queues[self.rng.usize(..queues.len())].clone();
            let tasks: Vec<Task> = (0..rate / 10).map(|_| self.task()).collect();
            self.submit(&queue, &tasks).await;
            if self.mix.varied {
                self.meddle(&queue, &tasks).await;
            }
            self.last = tasks;
        }
        Ok(())
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(..n) == 0
    }

    fn task(&mut self) -> Task {
        let mut body = Body {
            ms: self.rng.u64(..=self.mix.longest_ms),
            ..Body::default()
        };
        let mut retry = Retry {
            floor: Duration::from_millis(50),
            cap: Duration::from_millis(400),
            ..Retry::default()
        };
        let varied = self.mix.varied;
        if varied && self.one_in(10) {
            body.fails = self.rng.u16(1..=2);
        } else if varied && self.one_in(30) {
            (body.fails, retry.attempts) = (9, 2);
        } else if self.mix.poison && self.one_in(200) {
            body.poison = if self.one_in(2) { 9 } else { 1 };
        }
        if self.mix.large > 0 && self.one_in(100) {
            body.ballast = "x".repeat(self.mix.large);
        }
        let mut task = Task::handler(HANDLER, body.encode());
        task.retry = retry;
        if varied && self.one_in(15) {
            task.due = Due::After(Duration::from_millis(self.rng.u64(100..1000)));
        }
        if varied && self.one_in(10) {
            task.priority = self.rng.u8(..10);
        }
        if varied && self.one_in(4) {
            task.given_id = true;
        }
        task
    }

    /// Submits until it is known what became of it.
    async fn submit(&mut self, queue: &TaskQueue, tasks: &[Task]) {
        let (mut last_tries, plans) = (0, tasks.iter().map(planned).collect::<Vec<_>>());
        loop {
            self.ops += 1;
            let (op, tasks_again) = (self.ops, plans.clone());
            let to = queue.name().to_string();
            self.stage.recorder.record(What::Submit {
                op,
                queue: to,
                tasks: tasks_again,
            });
            let answer = queue.submit_many(tasks).await;
            let again = answer.as_ref().is_err_and(Error::is_transient);
            self.stage.recorder.record(answered(op, &answer));
            last_tries += u32::from(self.stage.stop.is_cancelled());
            if !again || last_tries > LAST_TRIES {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Submits the last tasks again, another one under the id of one of these, and cancels one.
    async fn meddle(&mut self, queue: &TaskQueue, tasks: &[Task]) {
        if self.one_in(10) {
            self.submit(queue, tasks).await;
        }
        if let Some(task) = tasks.first()
            && self.one_in(20)
        {
            let mut other = task.clone();
            other.body = "other content".into();
            let answer = queue.submit(&other).await;
            let outcome = known(answer.as_ref().err());
            self.stage.recorder.record(What::Clash {
                id: task.id,
                outcome,
            });
        }
        if let Some(task) = tasks.last()
            && self.one_in(5)
        {
            self.cancel(queue, task.id).await;
        }
    }

    async fn cancel(&self, queue: &TaskQueue, id: TaskId) {
        self.stage.recorder.record(What::Cancel { id });
        let answer = queue.cancel(&[id], Signal::Terminate).await;
        let outcome = known(answer.as_ref().err());
        let answer = answer.map_or_else(|error| error.to_string(), |a| format!("{a:?}"));
        self.stage.recorder.record(What::Cancelled {
            id,
            outcome,
            answer,
        });
    }
}

/// What the checker has to know of a task of this harness.
pub(crate) fn planned(task: &Task) -> Planned {
    let body: Body = serde_json::from_slice(&task.body).unwrap_or_default();
    Planned {
        id: task.id,
        hash: hash(&task.body),
        attempts: task.retry.attempts,
        crashes: task.retry.crashes,
        fails: body.fails,
        poison: body.poison,
        delay_ms: match task.due {
            Due::After(delay) => delay.as_millis() as u64,
            _ => 0,
        },
        priority: task.priority,
        floor_ms: task.retry.floor.as_millis() as u64,
    }
}

/// What the caller knows of a call that ended so.
pub(super) fn known(error: Option<&Error>) -> Known {
    match error {
        None => Known::Ok,
        Some(
            Error::Full { .. }
            | Error::OutOfMemory(_)
            | Error::CannotWrite { .. }
            | Error::Conflict { .. },
        ) => Known::Fail,
        Some(_) => Known::Info,
    }
}

fn answered(op: u64, answer: &Result<Vec<Submitted>, Error>) -> What {
    let outcome = known(answer.as_ref().err());
    let err = answer.as_ref().err().map(ToString::to_string);
    let letter = |submitted: &Submitted| match submitted {
        Submitted::New => 'n',
        Submitted::Exists => 'e',
        Submitted::Ended => 'd',
    };
    let letters = answer.iter().flatten().map(letter).collect();
    What::Submitted {
        op,
        outcome,
        letters,
        err,
    }
}
