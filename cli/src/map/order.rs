//! `-k`: results in the order of the input, whatever the order in which they come.
use std::collections::VecDeque;

/// Puts results back into the order in which they were expected.
///
/// It holds at most `window` jobs, so that one slow job at the front cannot fill the memory with
/// results behind it: while [`is_full`](Self::is_full), start no more jobs.
#[derive(Debug)]
pub struct InOrder<T> {
    /// The jobs from the first one whose result was not handed out yet, by number.
    waiting: VecDeque<(u64, Option<T>)>,
    window: usize,
}

impl<T> InOrder<T> {
    /// Holds at most `window` jobs, at least one.
    #[must_use]
    pub fn new(window: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            window: window.max(1),
        }
    }

    /// Whether no more jobs may be started until the first of those under way ends.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= self.window
    }

    /// Job `seq` comes next. Numbers only grow, with gaps where jobs are skipped.
    pub fn expect(&mut self, seq: u64) {
        debug_assert!(
            self.waiting.back().is_none_or(|&(last, _)| last < seq),
            "numbers only grow"
        );
        self.waiting.push_back((seq, None));
    }

    /// Job `seq` ended. Says whether it was expected; a second result replaces the first.
    pub fn put(&mut self, seq: u64, result: T) -> bool {
        let Ok(index) = self.waiting.binary_search_by_key(&seq, |&(seq, _)| seq) else {
            return false;
        };
        self.waiting[index].1 = Some(result);
        true
    }

    /// The next result in order, once it is there.
    pub fn next_ready(&mut self) -> Option<(u64, T)> {
        self.waiting.front()?.1.as_ref()?;
        let (seq, result) = self.waiting.pop_front()?;
        Some((seq, result?))
    }

    /// What is there when the run ends early, in order, without the jobs that never ended.
    pub fn into_ready(self) -> impl Iterator<Item = (u64, T)> {
        self.waiting
            .into_iter()
            .filter_map(|(seq, result)| Some((seq, result?)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ready(order: &mut InOrder<char>) -> String {
        std::iter::from_fn(|| order.next_ready())
            .map(|(_, result)| result)
            .collect()
    }

    #[test]
    fn results_wait_for_those_before_them() {
        let mut order = InOrder::new(3);
        for seq in [2, 5, 9] {
            assert!(!order.is_full());
            order.expect(seq);
        }
        assert!(order.is_full());
        assert!(order.put(9, 'c'));
        assert!(order.put(5, 'b'));
        assert_eq!(ready(&mut order), "");
        assert!(order.is_full());
        assert!(order.put(2, 'a'));
        assert_eq!(ready(&mut order), "abc");
        assert!(!order.is_full());
    }

    #[test]
    fn jobs_that_were_not_expected_are_refused() {
        let mut order = InOrder::new(3);
        order.expect(2);
        assert!(!order.put(1, 'x'));
        assert!(!order.put(3, 'x'));
        assert!(order.put(2, 'a'));
        assert_eq!(ready(&mut order), "a");
        assert!(!order.put(2, 'x'));
    }

    #[test]
    fn an_early_end_hands_out_what_is_there() {
        let mut order = InOrder::new(0);
        (1..=4).for_each(|seq| order.expect(seq));
        order.put(4, 'd');
        order.put(2, 'b');
        assert_eq!(order.into_ready().collect::<Vec<_>>(), [(2, 'b'), (4, 'd')]);
    }

    proptest! {
        #[test]
        fn any_order_of_ends_gives_the_order_of_the_input(
            ends in Just((1..=40_u64).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut order = InOrder::new(40);
            (1..=40).for_each(|seq| order.expect(seq));
            let mut out = Vec::new();
            for seq in ends {
                order.put(seq, ());
                out.extend(std::iter::from_fn(|| order.next_ready()).map(|(seq, ())| seq));
            }
            prop_assert!(out.into_iter().eq(1..=40));
        }
    }
}
