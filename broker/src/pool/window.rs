//! The window: how many chunks of a pool may be submitted at a time, which bounds memory on every side.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

/// Chunks under way for each process, where the workers themselves keep the number of processes: enough that none
/// waits for this process.
const AHEAD: usize = 256;
const MOST: usize = 16_384;
/// A chunk takes a place for each so many bytes.
const PLACE_BYTES: usize = 64 << 10;

/// A place in the window, or several for a large chunk.
pub(super) struct Place {
    permit: OwnedSemaphorePermit,
    _chunk: Arc<()>,
}

impl Place {
    /// How many places it is.
    pub(super) fn weight(&self) -> usize {
        self.permit.num_permits()
    }
}

/// The places of a pool.
pub(super) struct Window {
    places: Arc<Semaphore>,
    /// Held by the first of those who wait for a place.
    line: Mutex<()>,
    /// Shared with each chunk that has a place.
    chunk: Arc<()>,
    size: usize,
    /// How many places a chunk takes at most, so that each process still has one.
    heaviest: usize,
}

impl Window {
    /// A window in which no more chunks are under way than there are processes, or one that looks ahead.
    pub(super) fn new(processes: usize, ahead: bool) -> Self {
        let size = if ahead {
            processes.max((processes * AHEAD).min(MOST))
        } else {
            processes
        };
        Self {
            places: Arc::new(Semaphore::new(size)),
            line: Mutex::default(),
            chunk: Arc::default(),
            size,
            heaviest: (size / processes).max(1),
        }
    }

    /// Whether more chunks may be under way than run at a time.
    pub(super) fn is_ahead(&self) -> bool {
        self.heaviest > 1
    }

    /// So many places may be left when others follow: half of those ahead, as many at once cost less than one by one.
    pub(super) fn low(&self) -> usize {
        if self.is_ahead() {
            self.size / 2
        } else {
            self.size - 1
        }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// How many chunks have a place.
    pub(super) fn chunks(&self) -> usize {
        Arc::strong_count(&self.chunk) - 1
    }

    /// How many places so many bytes take.
    pub(super) fn weight(&self, bytes: usize) -> usize {
        (1 + bytes / PLACE_BYTES).min(self.heaviest)
    }

    /// A place for a chunk of this size, if one is free and nobody waits for it.
    pub(super) fn try_place(&self, bytes: usize) -> Option<Place> {
        let _first = self.line.try_lock().ok()?;
        let places = self.places.clone();
        let permit = places.try_acquire_many_owned(self.weight(bytes) as u32);
        Some(self.with(permit.ok()?))
    }

    /// Waits for a place, first come first served; `None` once the pool has ended. The size is asked for when those
    /// before have theirs, as more is known by then.
    pub(super) async fn place(&self, bytes: impl FnOnce() -> usize) -> Option<Place> {
        let _first = self.line.lock().await;
        let places = self.places.clone();
        let permit = places.acquire_many_owned(self.weight(bytes()) as u32);
        Some(self.with(permit.await.ok()?))
    }

    fn with(&self, permit: OwnedSemaphorePermit) -> Place {
        Place {
            permit,
            _chunk: self.chunk.clone(),
        }
    }

    /// Lets nobody wait any more.
    pub(super) fn close(&self) {
        self.places.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_chunks_leave_a_place_for_each_process() {
        let window = Window::new(2, true);
        assert_eq!(window.size(), 512);
        let _first = window.place(|| 16 << 20).await.unwrap();
        let second = window.try_place(16 << 20).unwrap();
        assert_eq!((window.chunks(), second.weight()), (2, 256));
        assert!(window.try_place(1).is_none());
        drop(second);
        assert_eq!(window.chunks(), 1);
    }

    #[tokio::test]
    async fn nobody_passes_who_waits() {
        let window = Window::new(1, true);
        let most = window.try_place(15 << 20);
        let mut waits = std::pin::pin!(window.place(|| 2 << 20));
        let early = tokio::time::timeout(std::time::Duration::ZERO, &mut waits).await;
        assert!(early.is_err());
        assert!(
            window.try_place(1).is_none(),
            "there are places, but a line"
        );
        drop(most);
        assert_eq!(waits.await.unwrap().weight(), 33);
        assert!(window.try_place(1).is_some());
    }

    #[tokio::test]
    async fn a_narrow_window_has_one_place_a_process() {
        let window = Window::new(2, false);
        let (_first, second) = (window.try_place(16 << 20), window.try_place(1));
        assert!(window.try_place(1).is_none());
        drop(second);
        assert!(window.try_place(1).is_some());
        window.close();
        assert!(window.place(|| 1).await.is_none());
    }
}
