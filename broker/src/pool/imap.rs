//! `imap` and `imap_unordered`: results one by one, while the input is still being read.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use super::PoolError;
use super::chunk::Done;
use super::flow::Flow;

/// The results of an `imap`, one at a time. In Python this is `IMapIterator`, or `IMapUnorderedIterator`.
///
/// The input is drawn as results are read, never further than a window of chunks ahead; so neither side needs memory
/// for a whole input of millions, nor for more than about 16 MiB of results a process. Chunks that are out go on when this is dropped, and their results are lost.
pub struct Imap<I, R> {
    flow: Flow<I>,
    /// Chunks that ended before their turn, where the order of the input is kept.
    early: Option<BTreeMap<usize, Done>>,
    turn: usize,
    ready: VecDeque<Result<R, PoolError>>,
}

impl<I, R> Imap<I, R>
where
    I: Iterator<Item: Serialize>,
    R: DeserializeOwned,
{
    pub(super) fn new(flow: Flow<I>, ordered: bool) -> Self {
        Self {
            flow,
            early: ordered.then(BTreeMap::new),
            turn: 0,
            ready: VecDeque::new(),
        }
    }

    /// The next result, or the error of its item; `None` at the end. In Python this is `IMapIterator.next`.
    ///
    /// An error does not end it: the items behind have results of their own. Loses nothing when its future is dropped.
    pub async fn next(&mut self) -> Option<Result<R, PoolError>> {
        loop {
            if let Some(result) = self.ready.pop_front() {
                return Some(result);
            }
            if let Some(done) = self.in_turn() {
                self.turn += 1;
                self.flow.read(&done);
                self.ready = done.results().into();
                continue;
            }
            let done = self.flow.next().await?;
            if let Some(early) = &mut self.early {
                early.insert(done.number, done);
            } else {
                self.flow.read(&done);
                self.ready = done.results().into();
            }
        }
    }

    /// The same, for at most this long; then [`PoolError::Timeout`], and the result comes with a later call.
    /// In Python this is `IMapIterator.next(timeout)`.
    pub async fn next_timeout(&mut self, longest: Duration) -> Option<Result<R, PoolError>> {
        timeout(longest, self.next())
            .await
            .unwrap_or(Some(Err(PoolError::Timeout)))
    }

    fn in_turn(&mut self) -> Option<Done> {
        self.early.as_mut()?.remove(&self.turn)
    }
}
