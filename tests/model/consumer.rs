//! The model of `take`: two completions, a queue, and consumers that may die, over the same network.

use std::fmt;

use stateright::{Model, Property};

use crate::explore::{assert_breaks, assert_holds};

const ITEMS: [u8; 2] = [1, 2];
/// How often something is taken, at most.
const TAKES: u8 = 5;
const NONE_LOST: &str = "no completion is lost";
const ONCE: &str = "a completion is taken again only after its taker's lease has ended";
const TOLD: &str = "a consumer whose batch went back is told";
const NOT_CUT_OFF: &str = "a consumer whose lease goes on is not told that it has ended";

/// A rule of `take` that the model can leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// The last number again answers the same, a lower one nothing.
    NumberInTake,
    /// What was taken stays the taker's batch until its next take.
    Batch,
    /// A take that is not the first of its consumer needs its row.
    RowOfLaterTakes,
    /// A take confirms the batch that its consumer has read, by its token, and no newer one.
    TokenInTake,
}

#[derive(Clone, Copy, Debug)]
struct Takes {
    /// How many consumers there are, one after another or at once, the later ones with an incarnation of their own.
    count: u8,
    removed: Option<Rule>,
}

/// The row of a consumer: the number of its last take that brought something, what it brought, and its token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Row {
    who: u8,
    number: u8,
    token: u8,
    batch: Vec<u8>,
}

/// A take, as its bytes say it: who, its number, the token of the batch that it confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Take {
    who: u8,
    number: u8,
    confirms: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Consumer {
    number: u8,
    /// Of the batch that it got last.
    token: u8,
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
    /// Every take that was sent.
    sent: Vec<Take>,
    /// The last token.
    token: u8,
    /// A consumer got more though its batch had gone back.
    told_wrong: bool,
    /// A consumer was told that its lease has ended, which it had not.
    cut_off: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Arrive {
        take: Take,
        heard: bool,
    },
    Crash(u8),
    /// The lease of a consumer ends: it may be dead, or paused.
    End(u8),
}

enum Answer {
    Items { items: Vec<u8>, token: u8 },
    Lost,
}

impl Consumer {
    /// The take that it sends next.
    fn next(&self, who: u8) -> Take {
        Take {
            who,
            number: self.number + 1,
            confirms: self.token,
        }
    }
}

impl Takes {
    fn makes(self, rule: Rule) -> bool {
        self.removed != Some(rule)
    }

    fn take(self, state: &mut State, take: Take) -> Answer {
        let Take { who, number, .. } = take;
        let row = state.rows.iter().position(|row| row.who == who);
        if number > 1 && row.is_none() && self.makes(Rule::RowOfLaterTakes) {
            return Answer::Lost;
        }
        let known = row.map(|i| state.rows[i].clone());
        let (last, token) = known.as_ref().map_or((0, 0), |row| (row.number, row.token));
        if number <= last && self.makes(Rule::NumberInTake) {
            let same = known.filter(|_| number == last);
            let items = same.map_or(Vec::new(), |row| row.batch);
            return Answer::Items { items, token };
        }
        if token > take.confirms && self.makes(Rule::TokenInTake) {
            return Answer::Lost;
        }
        let taken = state.queue.len().min(1);
        let batch: Vec<u8> = state.queue.drain(..taken).collect();
        state.token += u8::from(!batch.is_empty());
        let token = if batch.is_empty() { token } else { state.token };
        if !batch.is_empty() || row.is_some() {
            state.rows.retain(|row| row.who != who);
            state.rows.push(Row {
                who,
                number: if batch.is_empty() { last } else { number },
                token,
                batch: if self.makes(Rule::Batch) {
                    batch.clone()
                } else {
                    Vec::new()
                },
            });
        }
        Answer::Items {
            items: batch,
            token,
        }
    }

    fn hear(state: &mut State, who: u8, answer: Answer) {
        let consumer = &mut state.consumers[usize::from(who)];
        match answer {
            Answer::Items { items, .. } if items.is_empty() => {}
            Answer::Items { items, token } => {
                state.told_wrong |= consumer.returned;
                consumer.got.extend(items);
                consumer.number += 1;
                consumer.token = token;
                let next = consumer.next(who);
                if let Err(at) = state.sent.binary_search(&next) {
                    state.sent.insert(at, next);
                }
            }
            Answer::Lost => {
                consumer.over = true;
                state.cut_off |= !state.ended.contains(&who);
            }
        }
    }
}

impl Model for Takes {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let consumer = Consumer {
            number: 0,
            token: 0,
            got: Vec::new(),
            returned: false,
            over: false,
        };
        vec![State {
            queue: ITEMS.to_vec(),
            rows: Vec::new(),
            consumers: vec![consumer.clone(); usize::from(self.count)],
            ended: Vec::new(),
            sent: (0..self.count).map(|who| consumer.next(who)).collect(),
            token: 0,
            told_wrong: false,
            cut_off: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for &take in &state.sent {
            let consumer = &state.consumers[usize::from(take.who)];
            for heard in [false, true] {
                if !heard || !consumer.over && take == consumer.next(take.who) {
                    actions.push(Action::Arrive { take, heard });
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
            Action::Arrive { take, heard } => {
                let answer = self.take(&mut state, take);
                if heard {
                    Self::hear(&mut state, take.who, answer);
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

    /// Copies that come again and again would make tokens without end.
    fn within_boundary(&self, state: &State) -> bool {
        state.token <= TAKES
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
            Property::always(NOT_CUT_OFF, |_, s: &State| !s.cut_off),
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
            Self::Arrive { take, heard } => {
                let Take { who, number, .. } = take;
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
    removed: None,
};

#[test]
fn no_completion_is_lost_between_a_queue_and_its_consumers() {
    assert_holds("takes", TWO);
}

#[test]
fn each_rule_of_take_is_needed() {
    for (rule, property) in [
        (Rule::NumberInTake, NOT_CUT_OFF),
        (Rule::Batch, NONE_LOST),
        (Rule::RowOfLaterTakes, TOLD),
        (Rule::TokenInTake, NONE_LOST),
    ] {
        let removed = Some(rule);
        assert_breaks(
            &format!("without {rule:?}"),
            property,
            &Takes { removed, ..TWO },
        );
    }
}
