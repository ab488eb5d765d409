//! Slots: how many tasks run at once, and the number of each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All slots of a worker.
#[derive(Clone)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    total: usize,
    numbers: Arc<Mutex<BinaryHeap<Reverse<usize>>>>,
    suspect: Arc<AtomicBool>,
}

/// Free slots, which only the claimer takes, so their number holds until it fills them.
pub(crate) struct FreeSlots {
    permit: OwnedSemaphorePermit,
    slots: Slots,
}

/// A slot in use; it is free again when this is dropped.
pub(crate) struct Slot {
    /// 1 for the first.
    pub(crate) number: usize,
    _permit: OwnedSemaphorePermit,
    holds_suspect: bool,
    slots: Slots,
}

impl Slots {
    pub(crate) fn new(total: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(total)),
            total,
            numbers: Arc::new(Mutex::new((1..=total).map(Reverse).collect())),
            suspect: Arc::default(),
        }
    }

    /// Waits until at least one slot is free, and takes all that are.
    pub(crate) async fn free(&self) -> FreeSlots {
        let first = self.free.clone().acquire_owned().await;
        let mut permit = first.expect("the semaphore is never closed");
        let more = self.free.available_permits() as u32;
        if let Ok(rest) = self.free.clone().try_acquire_many_owned(more) {
            permit.merge(rest);
        }
        FreeSlots {
            permit,
            slots: self.clone(),
        }
    }

    /// Whether no slot may take a task that workers have died under: one is enough at a time.
    pub(crate) fn has_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }
}

impl FreeSlots {
    pub(crate) fn len(&self) -> usize {
        self.permit.num_permits()
    }

    pub(crate) fn are_all(&self) -> bool {
        self.len() == self.slots.total
    }

    /// Fills one of them.
    pub(crate) fn fill(&mut self, suspect: bool) -> Option<Slot> {
        let permit = self.permit.split(1)?;
        let number = self
            .slots
            .numbers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .map_or(0, |n| n.0);
        if suspect {
            self.slots.suspect.store(true, Ordering::Relaxed);
        }
        Some(Slot {
            number,
            _permit: permit,
            holds_suspect: suspect,
            slots: self.slots.clone(),
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots
            .numbers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Reverse(self.number));
        if self.holds_suspect {
            self.slots.suspect.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn numbers_are_the_lowest_free_ones() {
        let slots = Slots::new(3);
        let mut free = slots.free().await;
        let (first, second) = (free.fill(false).unwrap(), free.fill(true).unwrap());
        assert_eq!(
            (first.number, second.number, slots.has_suspect()),
            (1, 2, true)
        );
        drop(first);
        drop(second);
        assert!(!slots.has_suspect());
        drop(free);
        let mut free = slots.free().await;
        assert!(free.are_all());
        assert_eq!(free.fill(false).unwrap().number, 1);
    }
}
