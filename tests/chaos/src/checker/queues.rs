//! I12, queues: what is got was put, once, and the items of one sender come in order.

use std::collections::{BTreeMap, BTreeSet};

use super::{Invariant, Violation};
use crate::history::{History, Known, What};

/// For so long after its caller has given it up a call may still hold an item, which then goes back to the head, in ns.
const GIVES_BACK: u64 = 5_000_000_000;

/// Finds items that were lost, made up, doubled, or out of order.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let (mut put, mut sure, mut got) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    let mut last: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    let (mut missed, mut found): (BTreeMap<&str, u64>, _) = (BTreeMap::new(), Vec::new());
    for event in &history.events {
        match &event.what {
            What::Put { queue, seq } => {
                put.insert((queue.as_str(), event.actor.as_str(), *seq));
            }
            What::PutDone {
                queue,
                seq,
                outcome: Known::Ok,
            } => {
                sure.insert((queue.as_str(), event.actor.as_str(), *seq, event.t));
            }
            What::Missed { queue } => {
                missed.insert(queue, event.t);
            }
            What::Got { queue, sender, seq } => {
                let item = (queue.as_str(), sender.as_str(), *seq);
                if got.insert(item, event.t).is_some() && !history.went_back_before(event.t) {
                    found.push(wrong(item, "was got twice"));
                }
                let before = last.insert((queue, sender, &event.actor), *seq);
                let may_be_back = missed
                    .get(queue.as_str())
                    .is_some_and(|t| event.t - t < GIVES_BACK);
                let overtaken = before.is_some_and(|before| before > *seq);
                if overtaken && !may_be_back && !history.went_back_before(event.t) {
                    found.push(wrong(item, "came after a later one"));
                }
            }
            _ => {}
        }
    }
    let unknown = got.keys().filter(|item| !put.contains(*item));
    found.extend(unknown.map(|item| wrong(*item, "was never put")));
    if is_drained(history) {
        let lost = sure.iter().filter(|(queue, sender, seq, t)| {
            !got.contains_key(&(*queue, *sender, *seq)) && !history.may_be_lost(*t)
        });
        found.extend(
            lost.map(|(queue, sender, seq, _)| wrong((queue, sender, *seq), "was put and lost")),
        );
    }
    found
}

/// Whether the receivers got all, and none of them died with items in its hands.
fn is_drained(history: &History) -> bool {
    let mut drained = false;
    for event in &history.events {
        match &event.what {
            What::Phase { name } => drained |= name == "drained",
            What::Fault {
                target, effects, ..
            } if target.starts_with("receiver") && effects.ends_leases => {
                return false;
            }
            _ => {}
        }
    }
    drained
}

fn wrong((queue, sender, seq): (&str, &str, u64), what: &str) -> Violation {
    let subject = format!("\"sender\":\"{sender}\",\"seq\":{seq}");
    Violation::new(
        Invariant::Objects,
        subject,
        format!("of queue {queue} {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::history::Event;

    fn put(ms: u64, seq: u64) -> [Event; 2] {
        let queue = "plain".to_owned();
        let done = What::PutDone {
            queue: queue.clone(),
            seq,
            outcome: Known::Ok,
        };
        [at(ms, "s", What::Put { queue, seq }), at(ms, "s", done)]
    }

    fn got(ms: u64, seq: u64) -> Event {
        let (queue, sender) = ("plain".to_owned(), "s".to_owned());
        at(ms, "r", What::Got { queue, sender, seq })
    }

    fn found(items: &[u64]) -> Vec<String> {
        let mut events: Vec<Event> = put(1, 1).into_iter().chain(put(2, 2)).collect();
        events.extend(items.iter().zip(10..).map(|(seq, ms)| got(ms, *seq)));
        events.push(at(99, "harness", phase("drained")));
        let told = lines(&check(&history(events)));
        told.iter()
            .map(|line| line.replace("of queue plain ", ""))
            .collect()
    }

    #[test]
    fn items_come_once_and_in_order() {
        assert!(found(&[1, 2]).is_empty());
        assert_eq!(found(&[2, 1]), ["came after a later one"]);
        assert_eq!(found(&[1, 2, 2]), ["was got twice"]);
        assert_eq!(found(&[1, 2, 3]), ["was never put"]);
        assert_eq!(found(&[1]), ["was put and lost"]);
    }

    #[test]
    fn what_a_call_got_that_was_given_up_comes_later() {
        let queue = "plain".to_owned();
        let missed = at(9, "r", What::Missed { queue });
        let mut events: Vec<Event> = put(1, 1).into_iter().chain(put(2, 2)).collect();
        events.extend([missed, got(10, 2), got(11, 1)]);
        assert!(check(&history(events)).is_empty());
    }
}
