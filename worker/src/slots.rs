//! Slots: how many tasks run at once, and the number of each. A task that waits for others lends its slot.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// All slots of a worker.
#[derive(Clone)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    book: Arc<Mutex<Book>>,
    /// Told when one is lent.
    bell: Arc<Notify>,
}

/// What is known of slots in use.
#[derive(Default)]
struct Book {
    /// Numbers that were given out and came back.
    numbers: BinaryHeap<Reverse<usize>>,
    /// The highest number that was ever given out.
    highest: usize,
    /// Slots that run a task under which workers have died, and are not lent.
    suspects: usize,
    /// Permits that lenders took back while none was free: as many of the next that come free are swallowed.
    owed: usize,
}

/// Free slots, which only the claimer takes, so their number holds until it fills them.
pub(crate) struct FreeSlots {
    permit: OwnedSemaphorePermit,
    are_all: bool,
    slots: Slots,
}

/// A slot in use; it is free again when this is dropped.
pub(crate) struct Slot {
    /// 1 for the first. A slot that runs what a lent one has room for has a number of its own.
    pub(crate) number: usize,
    permit: OwnedSemaphorePermit,
    holds_suspect: bool,
    slots: Slots,
}

/// A slot is lent: one more task may run while this lives. When it is dropped, the lender goes on at once.
pub(crate) struct Lent {
    holds_suspect: bool,
    slots: Slots,
}

impl Slots {
    /// `bell` is rung when one is lent.
    pub(crate) fn new(total: usize, bell: Arc<Notify>) -> Self {
        Self {
            free: Arc::new(Semaphore::new(total)),
            book: Arc::default(),
            bell,
        }
    }

    /// Waits until at least one slot is free, and takes all that are.
    pub(crate) async fn free(&self) -> FreeSlots {
        loop {
            let first = self.free.clone().acquire_owned().await;
            let mut permit = first.expect("the semaphore is never closed");
            let mut book = self.book();
            let more = self.free.available_permits() as u32;
            if let Ok(rest) = self.free.clone().try_acquire_many_owned(more) {
                permit.merge(rest);
            }
            book.swallow(&mut permit);
            if permit.num_permits() > 0 {
                return FreeSlots {
                    permit,
                    are_all: book.in_use() == 0,
                    slots: self.clone(),
                };
            }
        }
    }

    /// Whether [`Slots::free`] would have to wait.
    pub(crate) fn none_is_free(&self) -> bool {
        let owed = self.book().owed;
        self.free.available_permits() <= owed
    }

    /// Whether no slot may take a task that workers have died under: one is enough at a time.
    pub(crate) fn has_suspect(&self) -> bool {
        self.book().suspects > 0
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn in_use(&self) -> usize {
        self.highest - self.numbers.len()
    }

    /// The lowest number that no slot in use has.
    fn number(&mut self) -> usize {
        if let Some(Reverse(number)) = self.numbers.pop() {
            return number;
        }
        self.highest += 1;
        self.highest
    }

    /// Keeps what is owed from coming free.
    fn swallow(&mut self, permit: &mut OwnedSemaphorePermit) {
        let n = self.owed.min(permit.num_permits());
        if let Some(swallowed) = permit.split(n) {
            swallowed.forget();
            self.owed -= n;
        }
    }
}

impl FreeSlots {
    pub(crate) fn len(&self) -> usize {
        self.permit.num_permits()
    }

    /// Whether no slot was in use when these were taken: no task runs, and none waits for another.
    pub(crate) fn are_all(&self) -> bool {
        self.are_all
    }

    /// Fills one of them.
    pub(crate) fn fill(&mut self, suspect: bool) -> Option<Slot> {
        let permit = self.permit.split(1)?;
        let mut book = self.slots.book();
        book.suspects += usize::from(suspect);
        Some(Slot {
            number: book.number(),
            permit,
            holds_suspect: suspect,
            slots: self.slots.clone(),
        })
    }
}

impl Drop for FreeSlots {
    fn drop(&mut self) {
        self.slots.book().swallow(&mut self.permit);
    }
}

impl Slot {
    /// Lends it, once at a time.
    pub(crate) fn lend(&self) -> Lent {
        let mut book = self.slots.book();
        // A suspect that waits does not run; one that it waits for may be another.
        book.suspects -= usize::from(self.holds_suspect);
        if book.owed > 0 {
            book.owed -= 1;
        } else {
            self.slots.free.add_permits(1);
        }
        self.slots.bell.notify_waiters();
        Lent {
            holds_suspect: self.holds_suspect,
            slots: self.slots.clone(),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut book = self.slots.book();
        book.numbers.push(Reverse(self.number));
        book.suspects -= usize::from(self.holds_suspect);
        book.swallow(&mut self.permit);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut book = self.slots.book();
        book.suspects += usize::from(self.holds_suspect);
        match self.slots.free.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => book.owed += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn slots(total: usize) -> Slots {
        Slots::new(total, Arc::default())
    }

    /// How many slots are free now.
    fn free(slots: &Slots) -> Option<FreeSlots> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(slots.free()).poll(&mut context) {
            std::task::Poll::Ready(free) => Some(free),
            std::task::Poll::Pending => None,
        }
    }

    fn fill(slots: &Slots) -> Slot {
        free(slots).unwrap().fill(false).unwrap()
    }

    #[test]
    fn numbers_are_the_lowest_free_ones() {
        let slots = slots(3);
        let mut taken = free(&slots).unwrap();
        let (first, second) = (taken.fill(false).unwrap(), taken.fill(true).unwrap());
        assert_eq!(
            (first.number, second.number, slots.has_suspect()),
            (1, 2, true)
        );
        drop(first);
        drop(second);
        assert!(!slots.has_suspect());
        drop(taken);
        let mut taken = free(&slots).unwrap();
        assert!(taken.are_all());
        assert_eq!(taken.fill(false).unwrap().number, 1);
    }

    #[tokio::test]
    async fn a_claimer_that_waits_gets_a_lent_slot_at_once() {
        let slots = slots(1);
        let lender = fill(&slots);
        let waits = tokio::spawn({
            let slots = slots.clone();
            async move { slots.free().await.fill(false).unwrap().number }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        let _lent = lender.lend();
        let number = tokio::time::timeout(Duration::from_secs(10), waits).await;
        assert_eq!(number.unwrap().unwrap(), 2);
    }

    #[test]
    fn a_lender_goes_on_at_once_and_the_next_slot_that_comes_free_makes_up_for_it() {
        let slots = slots(1);
        let lender = fill(&slots);
        let lent = lender.lend();
        let borrower = fill(&slots);
        drop(lent);
        drop(borrower);
        assert!(free(&slots).is_none() && slots.none_is_free());
        drop(lender);
        assert!(free(&slots).unwrap().are_all());
    }

    #[test]
    fn a_slot_that_is_lent_again_before_it_was_made_up_for_is_lent_once() {
        let slots = slots(1);
        let lender = fill(&slots);
        let lent = lender.lend();
        let borrower = fill(&slots);
        drop(lent);
        let lent = lender.lend();
        assert!(free(&slots).is_none(), "the borrower still has it");
        drop(borrower);
        assert_eq!(free(&slots).unwrap().len(), 1);
        drop(lent);
        assert!(free(&slots).is_none());
    }

    #[test]
    fn what_the_claimer_holds_unfilled_is_swallowed_as_well() {
        let slots = slots(1);
        let lender = fill(&slots);
        let lent = lender.lend();
        let held = free(&slots).unwrap();
        assert!(!held.are_all(), "the lender has not ended");
        drop(lent);
        drop(held);
        assert!(free(&slots).is_none());
    }

    #[test]
    fn a_suspect_that_waits_leaves_room_for_another() {
        let slots = slots(1);
        let lender = free(&slots).unwrap().fill(true).unwrap();
        let lent = lender.lend();
        assert!(!slots.has_suspect());
        drop(lent);
        assert!(slots.has_suspect());
        drop(lender);
        assert!(!slots.has_suspect());
    }

    proptest! {
        /// Whatever happens in whatever order: no two slots in use share a number, as many run as there are slots and
        /// returned lenders at most, and when all is over all slots are free.
        #[test]
        fn nothing_is_lost_or_made_up(total in 1usize..4, steps in prop::collection::vec((0u8..4, 0usize..8), 0..60)) {
            let slots = slots(total);
            let mut used: Vec<(Slot, Option<Lent>)> = Vec::new();
            for (step, i) in steps {
                let i = i % used.len().max(1);
                match step {
                    0 => if let Some(mut free) = free(&slots) {
                        prop_assert_eq!(free.are_all(), used.is_empty());
                        let running = used.iter().filter(|(_, lent)| lent.is_none()).count();
                        prop_assert!(running + free.len() <= total);
                        used.extend(free.fill(false).map(|slot| (slot, None)));
                    },
                    1 if !used.is_empty() => {
                        let (slot, lent) = used.swap_remove(i);
                        drop(lent);
                        drop(slot);
                    }
                    2 => if let Some((slot, lent @ None)) = used.get_mut(i) {
                        *lent = Some(slot.lend());
                    },
                    _ => if let Some((_, lent)) = used.get_mut(i) {
                        *lent = None;
                    },
                }
                let mut numbers: Vec<usize> = used.iter().map(|(slot, _)| slot.number).collect();
                numbers.sort_unstable();
                numbers.dedup();
                prop_assert_eq!(numbers.len(), used.len());
            }
            while let Some((slot, lent)) = used.pop() {
                drop(lent);
                drop(slot);
            }
            prop_assert_eq!(free(&slots).map(|free| (free.len(), free.are_all())), Some((total, true)));
        }
    }
}
