//! Lending: a run that waits for other tasks lends its slot to them, and takes it back without waiting for it.

mod socket;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pmq_broker::lending;

use crate::slots::{Lent, Slot};
pub(crate) use socket::{Desk, Socket, Ticket};

/// The slot of one run. However many waits the run has at a time, the slot is lent once.
pub(crate) struct Lender(Mutex<State>);

struct State {
    /// While some wait lives. It goes before the slot.
    lent: Option<Lent>,
    waits: usize,
    /// Until the run ends.
    slot: Option<Slot>,
}

/// One wait.
struct Wait(Arc<Lender>);

impl Lender {
    pub(crate) fn new(slot: Slot) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            lent: None,
            waits: 0,
            slot: Some(slot),
        })))
    }

    /// Frees the slot, also where something that the run left behind still waits.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.lent = None;
        state.slot = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl lending::Lender for Lender {
    fn lend(self: Arc<Self>) -> lending::Lent {
        let mut state = self.state();
        state.waits += 1;
        if state.waits == 1 {
            state.lent = state.slot.as_ref().map(Slot::lend);
        }
        drop(state);
        Box::new(Wait(self))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.waits -= 1;
        if state.waits == 0 {
            state.lent = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use pmq_broker::lending::Lender as _;

    use super::*;
    use crate::slots::Slots;

    /// One slot, and its lender.
    pub(super) async fn one() -> (Slots, Arc<Lender>) {
        let slots = Slots::new(1, Arc::default());
        let slot = slots.free().await.fill(false).unwrap();
        (slots, Lender::new(slot))
    }

    #[tokio::test]
    async fn waits_at_the_same_time_lend_one_slot() {
        let (slots, lender) = one().await;
        let (first, second) = (lender.clone().lend(), lender.clone().lend());
        assert_eq!(slots.free().await.len(), 1);
        drop(first);
        assert!(!slots.none_is_free());
        drop(second);
        assert!(slots.none_is_free());
    }

    #[tokio::test]
    async fn a_wait_that_outlives_its_run_lends_nothing() {
        let (slots, lender) = one().await;
        let left = lender.clone().lend();
        lender.end();
        assert_eq!(slots.free().await.len(), 1);
        let late = lender.clone().lend();
        drop((left, late));
        let free = slots.free().await;
        assert!(free.len() == 1 && free.are_all());
    }
}
