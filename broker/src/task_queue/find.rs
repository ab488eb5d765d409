//! find and `list_dead`: everything about one task, and the dead letters.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use redis::Value;

use super::shards::all;
use super::{LOOKUP_CHUNK, Run, Shard, Started, TaskQueue};
use crate::broker::PATIENCE;
use crate::completion::Completion;
use crate::envelope;
use crate::error::Result;
use crate::ids::TaskId;
use crate::process::Lineage;
use crate::reply::{self, odd};
use crate::task::Work;

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for a worker.
    Ready,
    /// A worker holds it.
    Running,
    /// It becomes ready later.
    Scheduled,
    /// It is a dead letter.
    Dead,
    /// It has ended; its record is still kept.
    Ended,
    /// Nothing is known of it.
    Unknown,
}

impl State {
    /// The word for it, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Scheduled => "scheduled",
            Self::Dead => "dead",
            Self::Ended => "ended",
            Self::Unknown => "unknown",
        }
    }
}

/// What is known of one task.
#[derive(Clone, Debug)]
pub struct Found {
    /// The task.
    pub id: TaskId,
    /// Where it is.
    pub state: State,
    /// What it runs, where its envelope is there and readable.
    pub work: Option<Work>,
    /// What a process is told about itself and its parent.
    pub lineage: Option<Lineage>,
    /// Where it runs, where it is a process that has started.
    pub started: Option<Started>,
    /// Whether its worker's lease has ended, so that the run is soon taken back.
    pub lost: bool,
    /// The run that is under way.
    pub run: Option<Run>,
    /// When it is due, or when it died, in ms since the epoch.
    pub at_ms: Option<u64>,
    /// Failures and crashes used up.
    pub used: (u16, u16),
    /// How it ended or died; the verdict alone where its completion was posted.
    pub completion: Option<Completion>,
}

/// A task that is kept although nothing runs it any more.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The task.
    pub id: TaskId,
    /// When it died, in ms since the epoch.
    pub died_ms: u64,
    /// What it would run, where its envelope is readable.
    pub work: Option<Work>,
    /// Why: its last completion.
    pub completion: Option<Completion>,
}

impl TaskQueue {
    /// Looks one task up.
    pub async fn find(&self, id: TaskId) -> Result<Found> {
        let found = self.shard_of(id).await?.find(id).await?;
        if found.state == State::Unknown && self.follow().await? {
            return self.shard_of(id).await?.find(id).await;
        }
        Ok(found)
    }

    /// The tasks that workers hold, in no order. One that starts or ends during the call may be among them or not.
    pub async fn running(&self) -> Result<Vec<TaskId>> {
        let running = all(self.shards().await?.iter().map(Shard::running)).await?;
        Ok(running.into_iter().flatten().collect())
    }

    /// All dead letters, oldest first, read page by page.
    pub async fn dead_letters(&self) -> Result<DeadLetters> {
        let shards = self.shards().await?.iter();
        let pages = shards.map(|shard| Pages {
            shard: shard.clone(),
            read: 0,
            over: false,
            letters: VecDeque::new(),
        });
        Ok(DeadLetters(pages.collect()))
    }
}

/// The dead letters of a queue, oldest first.
pub struct DeadLetters(Vec<Pages>);

/// Those of one shard.
struct Pages {
    shard: Shard,
    read: u64,
    over: bool,
    letters: VecDeque<DeadLetter>,
}

impl Pages {
    async fn fill(&mut self) -> Result<()> {
        if self.letters.is_empty() && !self.over {
            let page = self.shard.dead_letters(self.read).await?;
            self.read += page.len() as u64;
            self.over = page.len() < LOOKUP_CHUNK;
            self.letters.extend(page);
        }
        Ok(())
    }
}

impl DeadLetters {
    /// The next one, or `None` after the last.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>> {
        all(self.0.iter_mut().map(Pages::fill)).await?;
        let with_letters = self.0.iter_mut().filter(|pages| !pages.letters.is_empty());
        let oldest = with_letters.min_by_key(|pages| pages.letters.front().map(|l| l.died_ms));
        Ok(oldest.and_then(|pages| pages.letters.pop_front()))
    }
}

impl Shard {
    async fn find(&self, id: TaskId) -> Result<Found> {
        let call = self.call("find").arg(id.as_bytes().as_slice());
        let mut answer = reply::tagged(self.broker.control().call(&call, PATIENCE).await?, "find")?;
        let state = state(&answer.tag)?;
        let (work, details) = envelope::decode_head(&answer.bytes()?).ok().unzip();
        let run = Some(answer.bytes()?).filter(|run| !run.is_empty()).map(Run);
        let at_ms = answer.text()?.parse().ok();
        let used = used(&answer.bytes()?);
        let completion = self.completion(id, &answer.bytes()?);
        let started = Started::parse(&answer.bytes()?);
        let lost = answer.text()? == "1";
        Ok(Found {
            id,
            state,
            work,
            lineage: details.and_then(|details| details.process),
            started,
            lost,
            run,
            at_ms,
            used,
            completion,
        })
    }

    async fn running(&self) -> Result<Vec<TaskId>> {
        let (mut ids, mut cursor) = (BTreeSet::new(), "0".to_owned());
        loop {
            let (next, page) = self.running_page(&cursor).await?;
            ids.extend(page.into_iter().map(|(id, _)| id));
            cursor = next;
            if cursor == "0" {
                return Ok(ids.into_iter().collect());
            }
        }
    }

    /// A page of dead letters, oldest first, from the `first`-th on; at most 100.
    async fn dead_letters(&self, first: u64) -> Result<Vec<DeadLetter>> {
        let call = self.call("list_dead").arg(first).arg(LOOKUP_CHUNK);
        let mut items = reply::items(
            self.broker.control().call(&call, PATIENCE).await?,
            "list dead letters",
        )?
        .into_iter();
        let mut letters = Vec::new();
        while let (Some(id), Some(at), Some(envelope), Some(error)) =
            (items.next(), items.next(), items.next(), items.next())
        {
            letters.push(self.dead_letter(id, at, [envelope, error])?);
        }
        Ok(letters)
    }

    fn dead_letter(&self, id: Value, at: Value, fields: [Value; 2]) -> Result<DeadLetter> {
        let doing = "list dead letters";
        let id = TaskId::from_slice(&reply::bytes(id, doing)?).ok_or_else(|| odd(doing))?;
        let [envelope, error] = fields;
        Ok(DeadLetter {
            id,
            died_ms: reply::number(at, doing)?,
            work: work(&reply::bytes(envelope, doing)?),
            completion: self.completion(id, &reply::bytes(error, doing)?),
        })
    }

    /// How a task ended, where that is known and can be trusted.
    fn completion(&self, id: TaskId, record: &Bytes) -> Option<Completion> {
        (!record.is_empty())
            .then(|| self.sealing().open_completion(id, record).ok())
            .flatten()
    }
}

/// What an envelope without its body says that it runs.
fn work(envelope: &Bytes) -> Option<Work> {
    Some(envelope::decode_head(envelope).ok()?.0)
}

fn used(row: &[u8]) -> (u16, u16) {
    let field = |at: usize| {
        row.get(at..at + 2)
            .and_then(|f| f.try_into().ok())
            .map_or(0, u16::from_le_bytes)
    };
    (field(0), field(2))
}

fn state(word: &str) -> Result<State> {
    Ok(match word {
        "ready" => State::Ready,
        "running" => State::Running,
        "scheduled" => State::Scheduled,
        "dead" => State::Dead,
        "ended" => State::Ended,
        "unknown" => State::Unknown,
        _ => return Err(odd("find")),
    })
}
