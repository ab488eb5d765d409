//! submit: new tasks in, all of a call or none.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::task::yield_now;

use super::producer::NUMBERED_FROM;
use super::{CHUNK, CHUNK_BYTES, Shard, TaskQueue, Waiter};
use crate::broker::PATIENCE;
use crate::envelope;
use crate::error::{Error, Result};
use crate::functions::Call;
use crate::ids::TaskId;
use crate::reply::{self, Tagged, odd};
use crate::sealing::Sealing;
use crate::task::{Due, Task};

/// The letter of a task that was not there before.
const NEW: u8 = b'n';
/// To how many shards tasks go at the same time.
const AT_ONCE: usize = 4;

/// What became of a submitted task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It is queued.
    New,
    /// The same task is there already, under the same id.
    Exists,
    /// The same task has ended already, under the same id; it does not run again.
    Ended,
}

/// A task as a call carries it.
#[derive(Clone)]
pub(super) struct Item {
    id: TaskId,
    given_id: bool,
    /// Whether it is in a call for the first time, so that the broker can't know it.
    fresh: bool,
    due: Due,
    envelope: Bytes,
}

impl Item {
    fn new(task: &Task, sealing: &Sealing) -> Result<Self> {
        Ok(Self {
            id: task.id,
            given_id: task.given_id,
            due: task.due,
            envelope: sealing.seal_task(task)?,
            fresh: task.fresh.spend(&task.id),
        })
    }

    /// It may have been in a call.
    pub(super) fn spent(self) -> Self {
        Self {
            fresh: false,
            ..self
        }
    }

    /// How many bytes it takes.
    pub(super) fn len(&self) -> usize {
        self.envelope.len()
    }
}

/// Tasks, and the call that submits them.
pub(super) struct Batch {
    items: Vec<Item>,
    call: Call,
}

impl TaskQueue {
    /// Submits one task. In Python's multiprocessing this is `Pool.apply_async`.
    ///
    /// Submitting the same task under the same id again is no error and runs nothing twice. Tasks that are submitted
    /// while another call to their shard is under way go together with the next.
    pub async fn submit(&self, task: &Task) -> Result<Submitted> {
        let item = Item::new(task, self.sealing())?;
        match self.submit_item(item.clone()).await {
            Err(Error::Deleted { .. }) if self.follow().await? => self.submit_item(item).await,
            answer => answer,
        }
    }

    async fn submit_item(&self, item: Item) -> Result<Submitted> {
        let shards = self.open().await?;
        let shard = &shards[item.id.shard(shards.len())];
        shard.desk.submit(shard, item).await
    }

    /// Submits many tasks, in calls of at most 500 tasks and 1 MiB; each call is taken whole or not at all.
    ///
    /// Those of one shard go in their order, one call after the other, those of several shards at the same time. After an
    /// error, tasks of other calls may be in; submitting all of them again is safe.
    pub async fn submit_many(&self, tasks: &[Task]) -> Result<Vec<Submitted>> {
        tasks.iter().try_for_each(envelope::check)?;
        match self.submit_checked(tasks).await {
            Err(Error::Deleted { .. }) if self.follow().await? => self.submit_checked(tasks).await,
            answers => answers,
        }
    }

    async fn submit_checked(&self, tasks: &[Task]) -> Result<Vec<Submitted>> {
        let shards = self.open().await?;
        let mut lanes: Vec<Lane<'_>> = shards.iter().map(Lane::new).collect();
        for (place, task) in tasks.iter().enumerate() {
            let lane = &mut lanes[task.id.shard(shards.len())];
            lane.places.push(place);
            lane.tasks.push(task);
        }
        lanes.retain(|lane| !lane.tasks.is_empty());
        // A shard that is away must not keep the others' tasks from theirs, so all go to their ends.
        let mut answers = Vec::with_capacity(lanes.len());
        for some in lanes.chunks(AT_ONCE) {
            answers.extend(join_all(some.iter().map(Lane::submit)).await);
        }
        let mut placed = Vec::with_capacity(tasks.len());
        for (lane, answers) in lanes.iter().zip(answers) {
            placed.extend(lane.places.iter().zip(answers?));
        }
        placed.sort_by_key(|(place, _)| **place);
        Ok(placed.into_iter().map(|(_, answer)| answer).collect())
    }

    /// Waits until a claim makes room in a queue that was [`Error::Full`], or `timeout` passes.
    pub async fn wait_for_room(&self, timeout: Duration) -> Result<()> {
        let mut waiter = Waiter::for_room(self.shards().await?, timeout);
        waiter.wait(timeout).await.map(drop)
    }
}

/// The tasks of one shard.
struct Lane<'a> {
    shard: &'a Shard,
    tasks: Vec<&'a Task>,
    /// Where each was among all.
    places: Vec<usize>,
}

impl<'a> Lane<'a> {
    fn new(shard: &'a Shard) -> Self {
        Self {
            shard,
            tasks: Vec::new(),
            places: Vec::new(),
        }
    }

    async fn submit(&self) -> Result<Vec<Submitted>> {
        let mut answers = Vec::with_capacity(self.tasks.len());
        let mut next = self.next_batch(0)?;
        while let Some(batch) = next {
            let done = answers.len() + batch.items.len();
            // While one call is under way the next is made.
            let make = async {
                yield_now().await;
                self.next_batch(done)
            };
            let (answer, following) = tokio::join!(self.shard.submit_batch(&batch), make);
            answers.extend(answer?);
            next = following?;
        }
        Ok(answers)
    }

    /// The tasks from the `first`-th on, as many as one call takes: at most 500 and 1 MiB, but at least one where there is
    /// one.
    fn next_batch(&self, first: usize) -> Result<Option<Batch>> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        for task in self.tasks[first..].iter().take(CHUNK) {
            let item = Item::new(task, self.shard.sealing())?;
            bytes += item.len();
            if bytes > CHUNK_BYTES && !items.is_empty() {
                break;
            }
            items.push(item);
        }
        Ok((!items.is_empty()).then(|| self.shard.batch(items)))
    }
}

impl Shard {
    /// Makes the call that submits these tasks, all or none.
    pub(super) fn batch(&self, items: Vec<Item>) -> Batch {
        let mut call = self.call("submit").arg(items.len());
        if items.len() >= NUMBERED_FROM && items.iter().all(|item| item.fresh) {
            call.push(&self.producer.stamp());
        } else {
            let given = items.iter().any(|item| item.given_id);
            call.push(if given { b"1" } else { b"0" });
        }
        call = call.arg(self.whole().shards);
        for item in &items {
            call.push(item.id.as_bytes());
            call.push(&item.envelope);
        }
        if items.iter().any(|item| item.due != Due::Now) {
            for item in &items {
                call = match item.due {
                    Due::Now => call.arg(""),
                    Due::After(delay) => call.arg(format!("+{}", delay.as_millis())),
                    Due::At(ms) => call.arg(ms),
                };
            }
        }
        Batch { items, call }
    }

    /// Submits the tasks of one call. The first on a shard make it.
    pub(super) async fn submit_batch(&self, batch: &Batch) -> Result<Vec<Submitted>> {
        let answer = self.send_batch(batch).await?;
        if answer.tag != "moved" {
            return self.submitted(batch, answer).await;
        }
        self.make().await?;
        let answer = self.send_batch(batch).await?;
        self.submitted(batch, answer).await
    }

    async fn send_batch(&self, Batch { items, call }: &Batch) -> Result<Tagged> {
        let bytes: usize = items.iter().map(Item::len).sum();
        let link = if bytes > 65_536 {
            self.broker.bulk()
        } else {
            self.broker.control()
        };
        reply::tagged(link.call(call, PATIENCE).await?, "submit")
    }

    async fn submitted(&self, batch: &Batch, mut answer: Tagged) -> Result<Vec<Submitted>> {
        let items = &batch.items;
        match answer.tag.as_str() {
            "ok" => {
                let letters = answer.text()?;
                if let Ok(epoch) = answer.bytes() {
                    self.producer.learn(&epoch);
                }
                let new = letters.bytes().filter(|letter| *letter == NEW).count();
                self.announce(new).await;
                letters.bytes().map(submitted).collect()
            }
            "conflict" => {
                let index = answer.number()? as usize;
                Err(index
                    .checked_sub(1)
                    .and_then(|i| items.get(i))
                    .map_or_else(|| odd("submit"), |item| Error::Conflict { id: item.id }))
            }
            "full" => Err(Error::Full {
                queue: self.queue.clone(),
                what: answer.text()?,
                limit: answer.number()?,
            }),
            "moved" => Err(self.deleted()),
            _ => Err(odd("submit")),
        }
    }
}

fn submitted(letter: u8) -> Result<Submitted> {
    match letter {
        NEW => Ok(Submitted::New),
        b'e' => Ok(Submitted::Exists),
        b'd' => Ok(Submitted::Ended),
        _ => Err(odd("submit")),
    }
}
