//! The desk where tasks are submitted one by one: those that come while a call is under way go together with the next.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::submit::{Item, Submitted};
use super::{CHUNK, CHUNK_BYTES, Shard};
use crate::error::{Error, Result};
use crate::reply::odd;

/// Who submits to one shard, through one handle of its queue and its clones.
#[derive(Default)]
pub(super) struct Desk(Mutex<State>);

#[derive(Default)]
struct State {
    /// Whether somebody has the turn: a call is under way.
    busy: bool,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    item: Item,
    said: oneshot::Sender<Said>,
}

/// What who waits is told.
enum Said {
    /// Somebody has submitted its task.
    Answer(Result<Submitted>),
    /// It shall submit, its own task and those of who waits behind it.
    Turn(Turn),
}

impl Desk {
    /// Submits one task: at once where no call is under way, else with all that wait meanwhile.
    pub(super) async fn submit(&self, shard: &Shard, mut item: Item) -> Result<Submitted> {
        loop {
            let Some(said) = self.line_up(&item) else {
                return Turn::of(shard).submit(item).await;
            };
            match said.await {
                Ok(Said::Answer(answer)) => return answer,
                Ok(Said::Turn(turn)) => return turn.submit(item).await,
                Err(_) => item = item.spent(), // who had the turn gave its call up
            }
        }
    }

    /// A place in the line; `None` where nobody has the turn, which is the caller's from now on.
    fn line_up(&self, item: &Item) -> Option<oneshot::Receiver<Said>> {
        let mut state = self.state();
        if !state.busy {
            state.busy = true;
            return None;
        }
        state.waiting.retain(|waiting| !waiting.said.is_closed());
        let (said, hears) = oneshot::channel();
        let item = item.clone();
        state.waiting.push_back(Waiting { item, said });
        Some(hears)
    }

    /// The first that wait, as many as one call takes beside this item.
    fn beside(&self, item: &Item) -> Vec<Waiting> {
        let (mut state, mut bytes) = (self.state(), item.len());
        state.waiting.retain(|waiting| !waiting.said.is_closed());
        let fitting = state.waiting.iter().take(CHUNK - 1).take_while(|waiting| {
            bytes += waiting.item.len();
            bytes <= CHUNK_BYTES
        });
        let n = fitting.count();
        state.waiting.drain(..n).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to call. When it ends, the first who waits has it.
struct Turn(Option<Shard>);

impl Turn {
    fn of(shard: &Shard) -> Self {
        Self(Some(shard.clone()))
    }

    /// Submits this task, and those that wait.
    async fn submit(self, item: Item) -> Result<Submitted> {
        let shard = self.0.as_ref().ok_or_else(|| odd("submit"))?;
        let others = shard.desk.beside(&item);
        if others.is_empty() {
            return alone(shard, item).await;
        }
        together(shard, item, others).await
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(shard) = self.0.take() else { return };
        loop {
            let mut state = shard.desk.state();
            let Some(next) = state.waiting.pop_front() else {
                state.busy = false;
                return;
            };
            drop(state);
            match next.said.send(Said::Turn(Self::of(&shard))) {
                Err(Said::Turn(mut refused)) => refused.0 = None,
                _ => return,
            }
        }
    }
}

async fn alone(shard: &Shard, item: Item) -> Result<Submitted> {
    let answers = shard.submit_batch(&shard.batch(vec![item])).await?;
    answers.first().copied().ok_or_else(|| odd("submit"))
}

/// Submits all in one call, and answers for the first of them. What the broker refuses for one of them goes for none, so
/// then each goes alone.
async fn together(shard: &Shard, item: Item, others: Vec<Waiting>) -> Result<Submitted> {
    let mut items = vec![item.clone()];
    items.extend(others.iter().map(|waiting| waiting.item.clone()));
    match shard.submit_batch(&shard.batch(items)).await {
        Ok(submitted) => {
            for (waiting, submitted) in others.into_iter().zip(submitted.iter().skip(1)) {
                tell(waiting, Ok(*submitted));
            }
            submitted.first().copied().ok_or_else(|| odd("submit"))
        }
        Err(error @ Error::Unreachable { .. }) => {
            // Each call would wait as long again, one after the other.
            let behind = std::mem::take(&mut shard.desk.state().waiting);
            for waiting in others.into_iter().chain(behind) {
                tell(waiting, Err(away_too(&error)));
            }
            Err(error)
        }
        Err(_) => {
            let first = alone(shard, item).await;
            let mut away = None;
            for waiting in others {
                let answer = match &away {
                    Some(error) => Err(away_too(error)),
                    None => alone(shard, waiting.item.clone()).await,
                };
                if let Err(error @ Error::Unreachable { .. }) = &answer {
                    away = Some(away_too(error));
                }
                tell(waiting, answer);
            }
            first
        }
    }
}

/// Who does not wait any more does not want to know.
fn tell(waiting: Waiting, answer: Result<Submitted>) {
    let _ = waiting.said.send(Said::Answer(answer));
}

/// The same error of an outage, for another of those whom it met.
fn away_too(error: &Error) -> Error {
    match error {
        Error::Unreachable { at, source } => Error::Unreachable {
            at: at.clone(),
            source: source.clone(),
        },
        _ => odd("submit"),
    }
}
