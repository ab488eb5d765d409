//! I12, shared values: the calls on each register can be put in one order that explains every answer.
//!
//! The search is Wing and Gong's: try each call that could come first, and remember where it was in vain. A call without
//! an answer may have been done at any time after it began, or never.

use std::collections::{BTreeMap, HashSet};

use super::{Invariant, Violation};
use crate::history::{History, Known, Op, What};

/// One call, with when it began and when it was answered.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) began: u64,
    /// `None` where no answer came.
    pub(super) returned: Option<u64>,
    pub(super) op: Op,
    pub(super) answer: Option<i64>,
}

/// Finds registers that no single order explains.
pub(super) fn check(history: &History) -> Vec<Violation> {
    if history.went_back_before(u64::MAX) {
        return Vec::new(); // what was acknowledged may be undone, so there is no order to find
    }
    let wrong = |(key, calls): (String, Vec<Call>)| {
        let explained = is_linearizable(&calls);
        let what = format!("has {} calls that no order explains", calls.len());
        (!explained).then(|| Violation::new(Invariant::Objects, key, what))
    };
    calls_by_key(history)
        .into_iter()
        .filter_map(wrong)
        .collect()
}

fn calls_by_key(history: &History) -> BTreeMap<String, Vec<Call>> {
    let mut open: BTreeMap<(&str, u64), (String, Call)> = BTreeMap::new();
    let mut by_key: BTreeMap<String, Vec<Call>> = BTreeMap::new();
    for event in &history.events {
        match &event.what {
            What::Call { call, key, op } => {
                let begun = Call {
                    began: event.t,
                    returned: None,
                    op: *op,
                    answer: None,
                };
                open.insert((&event.actor, *call), (key.clone(), begun));
            }
            What::Return {
                call,
                outcome,
                answer,
                ..
            } => {
                let Some((key, mut done)) = open.remove(&(event.actor.as_str(), *call)) else {
                    continue;
                };
                match outcome {
                    Known::Ok => (done.returned, done.answer) = (Some(event.t), *answer),
                    Known::Fail => continue,
                    Known::Info => {}
                }
                by_key.entry(key).or_default().push(done);
            }
            _ => {}
        }
    }
    for (key, call) in open.into_values() {
        by_key.entry(key).or_default().push(call);
    }
    by_key
}

/// What a call answers in this state, and the state after it.
fn apply(op: Op, state: i64) -> (Option<i64>, i64) {
    match op {
        Op::Read => (Some(state), state),
        Op::Write(new) => (None, new),
        Op::Add(delta) => (Some(state), state + delta),
        Op::Exchange(old, new) if old == state => (Some(1), new),
        Op::Exchange(..) => (Some(0), state),
    }
}

/// Whether one order explains all answers, beginning with 0.
pub(super) fn is_linearizable(calls: &[Call]) -> bool {
    let mut calls: Vec<&Call> = calls.iter().collect();
    calls.sort_by_key(|call| call.began);
    let mut seen = HashSet::new();
    // The calls that are done: all before the first number, and those in the list.
    let mut stack = vec![(0_usize, Vec::<usize>::new(), 0_i64)];
    while let Some((prefix, done, state)) = stack.pop() {
        let is_done = |i: usize| i < prefix || done.contains(&i);
        let pending = (prefix..calls.len()).filter(|i| !is_done(*i));
        let horizon = pending.clone().filter_map(|i| calls[i].returned).min();
        let Some(horizon) = horizon else { return true };
        for i in pending.take_while(|i| calls[*i].began <= horizon) {
            let (answer, after) = apply(calls[i].op, state);
            if calls[i].returned.is_some() && answer != calls[i].answer {
                continue;
            }
            let next = with(prefix, &done, i);
            if seen.insert((next.0, next.1.clone(), after)) {
                stack.push((next.0, next.1, after));
            }
        }
    }
    false
}

/// The same calls done and one more, with the longest prefix.
fn with(mut prefix: usize, done: &[usize], i: usize) -> (usize, Vec<usize>) {
    let mut done: Vec<usize> = done.iter().copied().chain([i]).collect();
    done.sort_unstable();
    while done.first() == Some(&prefix) {
        done.remove(0);
        prefix += 1;
    }
    (prefix, done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(times: (u64, u64), op: Op, answer: Option<i64>) -> Call {
        let returned = (times.1 > 0).then_some(times.1);
        Call {
            began: times.0,
            returned,
            op,
            answer,
        }
    }

    #[test]
    fn one_order_explains_calls_that_overlap() {
        let read_old = [
            call((1, 4), Op::Write(7), None),
            call((2, 3), Op::Read, Some(0)),
            call((5, 6), Op::Read, Some(7)),
        ];
        assert!(is_linearizable(&read_old));
        let read_back = [
            call((1, 10), Op::Write(7), None),
            call((2, 3), Op::Read, Some(7)),
            call((4, 5), Op::Read, Some(0)),
        ];
        assert!(!is_linearizable(&read_back));
    }

    #[test]
    fn sums_do_not_get_lost() {
        let add = |from, to, before| call((from, to), Op::Add(1), Some(before));
        assert!(is_linearizable(&[add(1, 3, 1), add(2, 4, 0)]));
        assert!(!is_linearizable(&[add(1, 3, 0), add(2, 4, 0)]));
    }

    #[test]
    fn an_exchange_is_of_what_stands_there() {
        let exchange = |answer| call((1, 2), Op::Exchange(0, 5), Some(answer));
        let read = call((3, 4), Op::Read, Some(5));
        assert!(is_linearizable(&[exchange(1), read.clone()]));
        assert!(!is_linearizable(&[exchange(0), read]));
    }

    #[test]
    fn a_call_without_an_answer_may_be_done_late_or_never() {
        let lost = call((1, 0), Op::Write(7), None);
        for seen in [0, 7] {
            assert!(is_linearizable(&[
                lost.clone(),
                call((9, 10), Op::Read, Some(seen))
            ]));
        }
        let other = call((9, 10), Op::Read, Some(8));
        assert!(!is_linearizable(&[lost, other]));
    }
}
