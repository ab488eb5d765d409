//! The window: how many chunks of a pool may be submitted at a time, which bounds memory on every side.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Chunks under way for each process, where the workers themselves keep the number of processes: enough that none
/// waits for this process.
const AHEAD: usize = 256;
const MOST: usize = 16_384;
/// A chunk takes a place for each so many bytes.
const PLACE_BYTES: usize = 64 << 10;

/// A place in the window, or several for a large chunk.
pub(super) type Place = OwnedSemaphorePermit;

/// The places of a pool.
pub(super) struct Window {
    places: Arc<Semaphore>,
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
            size,
            heaviest: (size / processes).max(1),
        }
    }

    /// Whether more chunks may be under way than run at a time.
    pub(super) fn is_ahead(&self) -> bool {
        self.heaviest > 1
    }

    /// So many chunks may be left when others follow: half of those ahead, as many at once cost less than one by one.
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

    /// How many places are taken.
    pub(super) fn taken(&self) -> usize {
        self.size - self.places.available_permits()
    }

    fn weight(&self, bytes: usize) -> u32 {
        (1 + bytes / PLACE_BYTES).min(self.heaviest) as u32
    }

    /// A place for a chunk of this size, if one is free.
    pub(super) fn try_place(&self, bytes: usize) -> Option<Place> {
        let places = self.places.clone();
        places.try_acquire_many_owned(self.weight(bytes)).ok()
    }

    /// Waits for a place, first come first served; `None` once the pool has ended.
    pub(super) fn place(&self, bytes: usize) -> impl Future<Output = Option<Place>> + use<> {
        let (places, weight) = (self.places.clone(), self.weight(bytes));
        async move { places.acquire_many_owned(weight).await.ok() }
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
        let _first = window.place(16 << 20).await;
        let _second = window.try_place(16 << 20).unwrap();
        assert!(window.try_place(1).is_none());
    }

    #[tokio::test]
    async fn a_narrow_window_has_one_place_a_process() {
        let window = Window::new(2, false);
        let (_first, second) = (window.try_place(16 << 20), window.try_place(1));
        assert!(window.try_place(1).is_none());
        drop(second);
        assert!(window.try_place(1).is_some());
        window.close();
        assert!(window.place(1).await.is_none());
    }
}
