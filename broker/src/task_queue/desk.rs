//! The desk where tasks are submitted one by one: those that come while a call is under way go together with the next.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::submit::{Item, Submitted};
use super::{CHUNK, CHUNK_BYTES, TaskQueue};
use crate::error::{Error, Result};
use crate::reply::odd;

/// Who submits to one queue, through one handle of it and its clones.
#[derive(Default)]
pub(super) struct Desk(Mutex<State>);

#[derive(Default)]
struct State {
    /// Whether somebody has the turn: a call is under way.
    busy: bool,
    waiting: Vec<Waiting>,
}

struct Waiting {
    item: Item,
    answer: oneshot::Sender<Result<Submitted>>,
}

impl Desk {
    /// Submits one task: at once where no call is under way, else with all that wait meanwhile.
    pub(super) async fn submit(&self, queue: &TaskQueue, item: Item) -> Result<Submitted> {
        loop {
            let Some(answer) = self.line_up(&item) else {
                let _turn = Turn::of(queue);
                return alone(queue, item).await;
            };
            // Where the turn was dropped with who had it, nobody answers: then it takes its own.
            if let Ok(answer) = answer.await {
                return answer;
            }
        }
    }

    /// A place in the line; `None` where nobody has the turn, which is the caller's from now on.
    fn line_up(&self, item: &Item) -> Option<oneshot::Receiver<Result<Submitted>>> {
        let mut state = self.state();
        if !state.busy {
            state.busy = true;
            return None;
        }
        let (answer, answered) = oneshot::channel();
        let item = item.clone();
        state.waiting.push(Waiting { item, answer });
        Some(answered)
    }

    /// The first that wait, as many as one call takes.
    fn next(&self) -> Vec<Waiting> {
        let (mut state, mut bytes) = (self.state(), 0);
        let fits = state.waiting.iter().take(CHUNK).take_while(|waiting| {
            bytes += waiting.item.len();
            bytes <= CHUNK_BYTES
        });
        let n = fits.count().max(1).min(state.waiting.len());
        state.waiting.drain(..n).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to call. Its end passes it on to a task of the runtime that serves who waits.
struct Turn {
    queue: TaskQueue,
    serves: bool,
}

impl Turn {
    fn of(queue: &TaskQueue) -> Self {
        Self {
            queue: queue.clone(),
            serves: false,
        }
    }

    async fn serve(self) {
        loop {
            let batch = self.queue.desk.next();
            if batch.is_empty() {
                return;
            }
            together(&self.queue, batch).await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.queue.desk.state();
        let runtime = Handle::try_current().ok().filter(|_| !self.serves);
        match runtime {
            Some(runtime) if !state.waiting.is_empty() => {
                let mut next = Self::of(&self.queue);
                next.serves = true;
                drop(state);
                runtime.spawn(next.serve());
            }
            _ => {
                state.busy = false;
                state.waiting.clear();
            }
        }
    }
}

async fn alone(queue: &TaskQueue, item: Item) -> Result<Submitted> {
    let answers = queue.submit_batch(&queue.batch(vec![item])).await?;
    answers.first().copied().ok_or_else(|| odd("submit"))
}

/// Submits all in one call. What the broker refuses for one of them goes for none, so then each goes alone.
async fn together(queue: &TaskQueue, batch: Vec<Waiting>) {
    let (items, answers): (Vec<Item>, Vec<_>) =
        batch.into_iter().map(|w| (w.item, w.answer)).unzip();
    match queue.submit_batch(&queue.batch(items.clone())).await {
        Ok(submitted) => {
            for (answer, submitted) in answers.into_iter().zip(submitted) {
                let _ = answer.send(Ok(submitted)); // who does not wait any more does not want to know
            }
        }
        Err(Error::Unreachable { at, source }) => {
            for answer in answers {
                let (at, source) = (at.clone(), source.clone());
                let _ = answer.send(Err(Error::Unreachable { at, source }));
            }
        }
        Err(_) => {
            for (answer, item) in answers.into_iter().zip(items) {
                let _ = answer.send(alone(queue, item).await);
            }
        }
    }
}
