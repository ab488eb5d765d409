//! I8b: a lock has one holder at a time, where the server does not lose what it acknowledged.

use std::collections::BTreeMap;

use super::{Invariant, Terms, Violation};
use crate::history::{History, What};

/// Finds two holders at one time. A hold lasts from the first moment at which its holder found that it has the lock to
/// the last one: what it does not do in between harms nobody.
pub(super) fn check(history: &History, terms: &Terms) -> Vec<Violation> {
    if !terms.exclusion {
        return Vec::new();
    }
    let mut holds: BTreeMap<(&str, u64), (u64, u64)> = BTreeMap::new();
    for event in &history.events {
        if let What::Held { lock, fence, at } = &event.what {
            let hold = holds.entry((lock, *fence)).or_insert((*at, *at));
            *hold = (hold.0.min(*at), hold.1.max(*at));
        }
    }
    let mut by_lock: BTreeMap<&str, Vec<(u64, u64, u64)>> = BTreeMap::new();
    for ((lock, fence), (from, to)) in holds {
        by_lock.entry(lock).or_default().push((from, to, fence));
    }
    let overlap = |(lock, holds): (&str, &mut Vec<(u64, u64, u64)>)| {
        holds.sort_unstable();
        let two = holds.windows(2).find(|pair| pair[1].0 < pair[0].1)?;
        let what = format!(
            "was held under fence {} and under {} at one time",
            two[0].2, two[1].2
        );
        Some(Violation::new(Invariant::Exclusion, lock, what))
    };
    by_lock
        .iter_mut()
        .filter_map(|(lock, holds)| overlap((lock, holds)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::history::Event;

    fn held(ms: u64, fence: u64) -> Event {
        let found = What::Held {
            lock: "l".to_owned(),
            fence,
            at: ms * 1_000_000,
        };
        at(ms + 1, "holder", found)
    }

    #[test]
    fn holds_follow_each_other() {
        let good = history([held(1, 5), held(3, 5), held(4, 6)]);
        assert!(check(&good, &Terms::default()).is_empty());
        let bad = history([held(1, 5), held(4, 5), held(3, 6)]);
        assert_eq!(check(&bad, &Terms::default()).len(), 1);
        let lossy = Terms {
            exclusion: false,
            ..Terms::default()
        };
        assert!(check(&bad, &lossy).is_empty());
    }
}
