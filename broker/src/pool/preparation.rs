//! Preparation: whether the initializer of a pool works. Python starts workers for ever where it does not.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// So many failures of the initializer in a row end the pool.
const FAILURES: u32 = 3;
/// So many chunks in a row whose workers died end it, once some chunk was done; a single one may be to blame itself.
const LOSSES: u32 = 2;

/// What has come of it since a chunk was done.
#[derive(Default)]
pub(super) struct Preparation {
    failures: AtomicU32,
    losses: AtomicU32,
    /// Whether any chunk was done, ever.
    has_worked: AtomicBool,
}

impl Preparation {
    /// A chunk was done, so its worker was prepared.
    pub(super) fn done(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.losses.store(0, Ordering::Relaxed);
        self.has_worked.store(true, Ordering::Relaxed);
    }

    /// The initializer failed; whether that is enough.
    pub(super) fn failed(&self) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES
    }

    /// A chunk used up its crash budget, as each worker that had it died; whether that is enough.
    pub(super) fn lost(&self) -> bool {
        let losses = self.losses.fetch_add(1, Ordering::Relaxed) + 1;
        losses >= LOSSES || !self.has_worked.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_chunk_may_kill_its_workers_where_others_were_done() {
        let preparation = Preparation::default();
        preparation.done();
        assert!(!preparation.lost());
        preparation.done();
        assert!(!preparation.lost());
        assert!(preparation.lost());
        assert!(Preparation::default().lost(), "no worker was ever prepared");
    }

    #[test]
    fn failures_count_in_a_row() {
        let preparation = Preparation::default();
        assert!(!preparation.failed() && !preparation.failed());
        preparation.done();
        assert!(!preparation.failed() && !preparation.failed());
        assert!(preparation.failed());
    }
}
