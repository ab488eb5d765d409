//! The lane: tasks that were claimed ahead wait here for their turn, while tasks are short.
//!
//! Where a task takes less time than asking for it, a worker that asks for one at a time mostly waits. So it claims
//! further ahead the shorter its tasks are. A task that turns out long holds up none of those behind it: they are handed
//! back, to the head of their queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Tasks that take less are worth claiming ahead.
const SHORT: Duration = Duration::from_micros(500);
/// After one that takes longer, nothing is claimed ahead until tasks are short again.
const LONG: Duration = Duration::from_millis(2);
/// When no task has ended for so long, those that wait go back.
const STALLED: Duration = Duration::from_millis(10);

/// Decides how far ahead a worker claims, and whose turn it is.
#[derive(Clone)]
pub(crate) struct Lane(Arc<Inner>);

struct Inner {
    turns: Arc<Semaphore>,
    slots: usize,
    /// How many tasks may wait at most; 0 for none, then the lane does nothing.
    most: usize,
    /// How many may wait now.
    ahead: AtomicUsize,
    born: Instant,
    /// When a task last ended, in µs since `born`.
    moved: AtomicU64,
    /// Told when there may be room for more.
    room: Notify,
}

/// The turn of a task, from its start to its end.
pub(crate) struct Turn {
    lane: Lane,
    since: Instant,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Lane {
    pub(crate) fn new(slots: usize, most: usize) -> Self {
        Self(Arc::new(Inner {
            turns: Arc::new(Semaphore::new(slots)),
            slots,
            most,
            ahead: AtomicUsize::new(0),
            born: Instant::now(),
            moved: AtomicU64::new(0),
            room: Notify::new(),
        }))
    }

    /// How many of these free slots may be filled now; it waits for several, to ask for them in one call.
    pub(crate) fn usable(&self, free: usize) -> usize {
        let inner = &self.0;
        if inner.most == 0 {
            return free;
        }
        let ahead = inner.ahead.load(Ordering::Relaxed);
        let usable = free.saturating_sub(inner.most - ahead);
        if 2 * usable > ahead { usable } else { 0 }
    }

    /// Waits until more slots may be usable; created before it is asked how many are.
    pub(crate) fn room(&self) -> impl Future<Output = ()> {
        self.0.room.notified()
    }

    /// Says that a slot is free again.
    pub(crate) fn freed(&self) {
        if self.0.most > 0 {
            self.0.room.notify_waiters();
        }
    }

    /// Waits for a task's turn; `None` where it shall stop, or where those before it take long: it is to go back.
    pub(crate) async fn turn(&self, stop: &CancellationToken) -> Option<Turn> {
        if self.0.most == 0 {
            return Some(self.begin(None));
        }
        if let Ok(permit) = self.0.turns.clone().try_acquire_owned() {
            return Some(self.begin(Some(permit)));
        }
        let mut permit = std::pin::pin!(self.0.turns.clone().acquire_owned());
        loop {
            tokio::select! {
                biased;
                permit = &mut permit => return Some(self.begin(permit.ok())),
                () = stop.cancelled() => return None,
                () = sleep(STALLED) => if self.is_stalled() {
                    self.0.ahead.store(0, Ordering::Relaxed);
                    return None;
                },
            }
        }
    }

    fn begin(&self, permit: Option<OwnedSemaphorePermit>) -> Turn {
        Turn {
            lane: self.clone(),
            since: Instant::now(),
            _permit: permit,
        }
    }

    fn is_stalled(&self) -> bool {
        let moved = Duration::from_micros(self.0.moved.load(Ordering::Relaxed));
        self.0.born.elapsed().saturating_sub(moved) >= STALLED
    }

    fn learn(&self, took: Duration) {
        let inner = &self.0;
        let moved = inner.born.elapsed().as_micros() as u64;
        inner.moved.store(moved, Ordering::Relaxed);
        let ahead = inner.ahead.load(Ordering::Relaxed);
        if took < SHORT && ahead < inner.most {
            let more = (2 * ahead).clamp(inner.slots, inner.most);
            inner.ahead.store(more, Ordering::Relaxed);
        } else if took > LONG {
            inner.ahead.store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.lane.0.most > 0 {
            self.lane.learn(self.since.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_looks_ahead_while_tasks_are_short() {
        let lane = Lane::new(1, 8);
        assert_eq!(lane.usable(9), 1);
        for ahead in [1, 2, 4, 8, 8] {
            lane.learn(Duration::ZERO);
            assert_eq!(lane.usable(9), ahead + 1);
        }
        assert_eq!(
            (lane.usable(5), lane.usable(4)),
            (5, 0),
            "asks for several at once"
        );
        lane.learn(LONG * 2);
        assert_eq!((lane.usable(9), lane.usable(8)), (1, 0));
        assert_eq!(Lane::new(4, 0).usable(3), 3);
    }

    #[tokio::test]
    async fn what_waits_behind_a_long_task_goes_back() {
        let (lane, stop) = (Lane::new(1, 8), CancellationToken::new());
        lane.learn(Duration::ZERO);
        let long = lane.turn(&stop).await;
        assert!(long.is_some());
        assert!(lane.turn(&stop).await.is_none());
        assert_eq!(lane.usable(8), 0, "and nothing more is claimed");
        drop(long);
        assert!(lane.turn(&stop).await.is_some());
    }

    #[tokio::test]
    async fn what_shall_stop_does_not_start() {
        let (lane, stop) = (Lane::new(1, 8), CancellationToken::new());
        let _running = lane.turn(&stop).await;
        stop.cancel();
        assert!(lane.turn(&stop).await.is_none());
    }
}
