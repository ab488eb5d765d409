//! finish: the end of runs, many at once.

use bytes::Bytes;

use super::{Claim, Run, Shard, chunks};
use crate::broker::PATIENCE;
use crate::completion::{Completion, Outcome};
use crate::error::Result;
use crate::ids::TaskId;
use crate::reply::{self, odd};
use crate::sealing::Sealing;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It did what it should.
    Ok,
    /// It failed; it is tried again while attempts are left.
    Failed,
    /// It failed in a way that trying again does not change.
    FailedForGood,
    /// It could not be run at all: unreadable, expired.
    Dead,
    /// It was stopped because somebody cancelled it.
    Cancelled,
}

impl How {
    fn letter(self) -> &'static str {
        match self {
            Self::Ok => "o",
            Self::Failed => "f",
            Self::FailedForGood => "g",
            Self::Dead => "d",
            Self::Cancelled => "c",
        }
    }

    /// The outcome that its completion has, if the task ends with this run.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Ok => Outcome::Ok,
            Self::Failed | Self::FailedForGood => Outcome::Failed,
            Self::Dead => Outcome::Dead,
            Self::Cancelled => Outcome::Cancelled,
        }
    }
}

/// The end of one run.
#[derive(Clone, Debug)]
pub struct Finish {
    /// The task.
    pub id: TaskId,
    /// The run, as claimed.
    pub run: Run,
    /// How it ended.
    pub how: How,
    /// The encoded completion, which is posted if the task ends with this run.
    pub completion: Bytes,
}

impl Finish {
    /// The end of this run with this completion, sealed as its queue's are.
    #[must_use]
    pub fn new(claim: &Claim, how: How, completion: &Completion, sealing: &Sealing) -> Self {
        Self {
            id: completion.id,
            run: claim.run.clone(),
            how,
            completion: sealing.seal_completion(completion, &claim.envelope),
        }
    }
}

/// What became of a task whose run was finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It ended; its completion is posted.
    Ended,
    /// It is scheduled for another try.
    Retried,
    /// It is a dead letter; its completion is posted.
    Buried,
    /// This very run ended it before.
    AlreadyDone,
    /// The lease had ended, or another run ended the task: this result is dropped.
    Lost,
}

impl Shard {
    /// Ends runs, in calls of at most 500 and 1 MiB. Repeating it is safe: only the newest token of a task counts.
    ///
    /// Both `task_done` and the `put` on the queue of results, in the words of Python's multiprocessing.
    pub async fn finish(&self, runs: &[Finish]) -> Result<Vec<Finished>> {
        let mut answers = Vec::with_capacity(runs.len());
        for range in chunks(runs.iter().map(|f| f.completion.len())) {
            answers.extend(self.finish_chunk(&runs[range]).await?);
        }
        Ok(answers)
    }

    async fn finish_chunk(&self, runs: &[Finish]) -> Result<Vec<Finished>> {
        let mut call = self.call("finish").arg(fastrand::u16(0..1000));
        // The tasks of a claim mostly share their running value, which is sent once for those in a row.
        for group in runs.chunk_by(|a, b| a.how == b.how && a.run == b.run) {
            call.push(&group[0].run.0);
            call = call.arg(group[0].how.letter()).arg(group.len());
            for finish in group {
                call.push(finish.id.as_bytes());
                call.push(&finish.completion);
            }
        }
        let bytes: usize = runs.iter().map(|f| f.completion.len()).sum();
        let link = if bytes > 262_144 {
            self.broker.bulk()
        } else {
            self.broker.control()
        };
        let letters = reply::bytes(link.call(&call, PATIENCE).await?, "finish")?;
        let finished = letters.iter().map(|letter| finished(*letter));
        let finished: Vec<Finished> = finished.collect::<Result<_>>()?;
        // One who watches the clock must learn of what is due next.
        self.announce(usize::from(finished.contains(&Finished::Retried)))
            .await;
        Ok(finished)
    }
}

fn finished(letter: u8) -> Result<Finished> {
    match letter {
        b'o' => Ok(Finished::Ended),
        b'r' => Ok(Finished::Retried),
        b'b' => Ok(Finished::Buried),
        b'a' => Ok(Finished::AlreadyDone),
        b'l' => Ok(Finished::Lost),
        _ => Err(odd("finish")),
    }
}
