//! Bulk: how large the results of each task are, as far as a pool knows. What is not there yet is weighed by it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A chunk whose results nobody has seen yet counts as this: some of the largest fit into the memory for it.
const UNKNOWN: usize = 4 << 20;

/// By the name of the task, the bytes of an item's result; the last few chunks count most.
#[derive(Default)]
pub(super) struct Bulk(Mutex<HashMap<&'static str, f64>>);

impl Bulk {
    /// How many bytes the results of so many items will have.
    pub(super) fn expected(&self, task: &'static str, items: usize) -> usize {
        let known = self.known().get(task).copied();
        known.map_or(UNKNOWN, |average| (average * items as f64) as usize)
    }

    /// The results of so many items had so many bytes.
    pub(super) fn came(&self, task: &'static str, items: usize, bytes: usize) {
        let latest = bytes as f64 / items.max(1) as f64;
        let mut known = self.known();
        let average = known.entry(task).or_insert(latest);
        *average += (latest - *average) / 4.0;
    }

    fn known(&self) -> MutexGuard<'_, HashMap<&'static str, f64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_tells_what_will_come() {
        let bulk = Bulk::default();
        assert_eq!(bulk.expected("t", 1), UNKNOWN);
        bulk.came("t", 2, 2000);
        assert_eq!((bulk.expected("t", 1), bulk.expected("t", 3)), (1000, 3000));
        assert_eq!(bulk.expected("other", 1), UNKNOWN);
        bulk.came("t", 1, 5000);
        assert_eq!(bulk.expected("t", 1), 2000);
        for _ in 0..20 {
            bulk.came("t", 1, 0);
        }
        assert!(bulk.expected("t", 1) < 10);
    }
}
