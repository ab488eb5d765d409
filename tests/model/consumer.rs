//! The model of `take`: two completions, a queue, and consumers that may die, over the same network.

use std::fmt;

use stateright::{Model, Property};

use crate::explore::{assert_breaks, assert_holds};

const ITEMS: [u8; 2] = [1, 2];
const NONE_LOST: &str = "no completion is lost";
const ONCE: &str = "a completion is taken again only after its taker's lease has ended";
const TOLD: &str = "a consumer whose batch went back is told";

/// A rule of `take` that the model can leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// The last number again answers the same, a lower one nothing.
    NumberInTake,
    /// What was taken stays the taker's batch until its next take.
    Batch,
    /// A take that is not the first of its consumer needs its row.
    RowOfLaterTakes,
}

#[derive(Clone, Copy, Debug)]
struct Takes {
    /// How many consumers there are, one after another or at once, the later ones with an incarnation of their own.
    count: u8,
    /// Whether a copy of a take may arrive after the broker has forgotten its consumer.
    stale: bool,
    removed: Option<Rule>,
}

/// The row of a consumer: the number of its last take that brought something, and what it brought.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Row {
    who: u8,
    number: u8,
    batch: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Consumer {
    number: u8,
    got: Vec<u8>,
    /// What it got last went back.
    returned: bool,
    /// It is dead, or was told that its lease has ended.
    over: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    queue: Vec<u8>,
    rows: Vec<Row>,
    consumers: Vec<Consumer>,
    /// Whose lease has ended.
    ended: Vec<u8>,
    /// Every take that was sent: who, and its number.
    sent: Vec<(u8, u8)>,
    /// A consumer got more though its batch had gone back.
    told_wrong: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Take {
        who: u8,
        number: u8,
        heard: bool,
    },
    Crash(u8),
    /// The lease of a consumer ends: it may be dead, or paused.
    End(u8),
}

enum Answer {
    Items(Vec<u8>),
    Lost,
}

impl Takes {
    fn makes(self, rule: Rule) -> bool {
        self.removed != Some(rule)
    }

    fn take(self, state: &mut State, who: u8, number: u8) -> Answer {
        let row = state.rows.iter().position(|row| row.who == who);
        if number > 1 && row.is_none() && self.makes(Rule::RowOfLaterTakes) {
            return Answer::Lost;
        }
        let last = row.map_or(0, |i| state.rows[i].number);
        if number <= last && self.makes(Rule::NumberInTake) {
            let same = row.filter(|_| number == last);
            return Answer::Items(same.map_or(Vec::new(), |i| state.rows[i].batch.clone()));
        }
        let taken = state.queue.len().min(1);
        let batch: Vec<u8> = state.queue.drain(..taken).collect();
        if !batch.is_empty() || row.is_some() {
            state.rows.retain(|row| row.who != who);
            state.rows.push(Row {
                who,
                number: if batch.is_empty() { last } else { number },
                batch: if self.makes(Rule::Batch) {
                    batch.clone()
                } else {
                    Vec::new()
                },
            });
        }
        Answer::Items(batch)
    }

    fn hear(state: &mut State, who: u8, answer: Answer) {
        let consumer = &mut state.consumers[usize::from(who)];
        match answer {
            Answer::Items(items) if items.is_empty() => {}
            Answer::Items(items) => {
                state.told_wrong |= consumer.returned;
                consumer.got.extend(items);
                consumer.number += 1;
                let next = (who, consumer.number + 1);
                if let Err(at) = state.sent.binary_search(&next) {
                    state.sent.insert(at, next);
                }
            }
            Answer::Lost => consumer.over = true,
        }
    }
}

impl Model for Takes {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let consumer = Consumer {
            number: 0,
            got: Vec::new(),
            returned: false,
            over: false,
        };
        vec![State {
            queue: ITEMS.to_vec(),
            rows: Vec::new(),
            consumers: vec![consumer; usize::from(self.count)],
            ended: Vec::new(),
            sent: (0..self.count).map(|who| (who, 1)).collect(),
            told_wrong: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for &(who, number) in &state.sent {
            let consumer = &state.consumers[usize::from(who)];
            let known = state.rows.iter().any(|row| row.who == who);
            if number <= consumer.number && !known && !self.stale {
                continue;
            }
            for heard in [false, true] {
                if !heard || !consumer.over && number == consumer.number + 1 {
                    actions.push(Action::Take { who, number, heard });
                }
            }
        }
        for who in 0..self.count {
            // The last one lives: somebody must be left to take what went back.
            if who + 1 < self.count && !state.consumers[usize::from(who)].over {
                actions.push(Action::Crash(who));
            }
            if state.rows.iter().any(|row| row.who == who) {
                actions.push(Action::End(who));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Take { who, number, heard } => {
                let answer = self.take(&mut state, who, number);
                if heard {
                    Self::hear(&mut state, who, answer);
                }
            }
            Action::Crash(who) => state.consumers[usize::from(who)].over = true,
            Action::End(who) => {
                let at = state.rows.iter().position(|row| row.who == who)?;
                let row = state.rows.remove(at);
                let consumer = &mut state.consumers[usize::from(who)];
                let heard = consumer.number == row.number && !row.batch.is_empty();
                consumer.returned |= heard;
                state.queue.splice(0..0, row.batch);
                if !state.ended.contains(&who) {
                    state.ended.push(who);
                    state.ended.sort_unstable();
                }
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NONE_LOST, |_, s: &State| {
                ITEMS.iter().all(|item| is_kept(s, *item))
            }),
            Property::always(ONCE, |_, s: &State| {
                ITEMS.iter().all(|item| is_taken_once(s, *item))
            }),
            Property::always(TOLD, |_, s: &State| !s.told_wrong),
            Property::sometimes("one gets all", |_, s: &State| s.consumers[0].got == ITEMS),
        ]
    }
}

/// It waits, or somebody got it, or is the batch of a consumer that asks again or whose lease will end.
fn is_kept(s: &State, item: u8) -> bool {
    let batch = |row: &Row| row.batch.contains(&item);
    let got = |consumer: &Consumer| consumer.got.contains(&item);
    s.queue.contains(&item) || s.rows.iter().any(batch) || s.consumers.iter().any(got)
}

fn is_taken_once(s: &State, item: u8) -> bool {
    let times = |consumer: &Consumer| {
        consumer
            .got
            .iter()
            .fold(0, |n, got| n + u8::from(*got == item))
    };
    let who_got = (0..)
        .zip(&s.consumers)
        .filter(|(_, consumer)| times(consumer) > 0);
    let alive = who_got.filter(|(who, _)| !s.ended.contains(who)).count();
    alive <= 1
        && s.consumers
            .iter()
            .zip(0..)
            .all(|(c, who)| times(c) <= 1 || s.ended.contains(&who))
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Take { who, number, heard } => {
                let answer = if *heard {
                    "is answered"
                } else {
                    "its answer is not heard"
                };
                write!(f, "take {number} of consumer {who} arrives; {answer}")
            }
            Self::Crash(who) => write!(f, "consumer {who} dies"),
            Self::End(who) => write!(f, "the lease of consumer {who} ends"),
        }
    }
}

const TWO: Takes = Takes {
    count: 2,
    stale: false,
    removed: None,
};

#[test]
fn no_completion_is_lost_between_a_queue_and_its_consumers() {
    assert_holds("takes", TWO);
}

#[test]
fn each_rule_of_take_is_needed() {
    for (rule, property) in [
        (Rule::NumberInTake, NONE_LOST),
        (Rule::Batch, NONE_LOST),
        (Rule::RowOfLaterTakes, TOLD),
    ] {
        let removed = Some(rule);
        assert_breaks(
            &format!("without {rule:?}"),
            property,
            &Takes { removed, ..TWO },
        );
    }
}

/// A limit of the protocol, told in the decision on models: numbers are only good while the broker knows the consumer.
#[test]
fn a_first_take_that_arrives_after_its_consumer_was_forgotten_can_lose_a_completion() {
    let stale = true;
    assert_breaks("a stale take", NONE_LOST, &Takes { stale, ..TWO });
}
