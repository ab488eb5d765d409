//! The model of locks: two processes, one lock under a lease, and a resource that knows the fence of its last writer.

use std::fmt;

use stateright::{Model, Property};

use crate::explore::{assert_breaks, assert_holds};

/// Ticks of the clock; the holder trusts its lease until one less than that after it asked.
const LEASE: u8 = 3;
const MARGIN: u8 = 1;
const CLIENTS: usize = 2;
/// How often each process asks for the lock.
const ASKS: u8 = 2;

const EXCLUSION: &str = "two never act at once, without a failover";
const FENCED: &str = "the resource takes nothing from an earlier holder";
const FENCES_GROW: &str = "fences grow";

/// A rule of locks that the model can leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// A fence is at least the time; without it, it is the last one plus one.
    TimeInFence,
    /// A fence is more than the last one; without it, it is the time, which may step back.
    LastInFence,
    /// The resource refuses a fence lower than the last that it took.
    FenceAtResource,
    /// A holder counts its lease from when it asked; without it, from the answer.
    LeaseFromAsking,
}

#[derive(Clone, Copy, Debug)]
struct Locks {
    ticks: u8,
    failovers: u8,
    /// How often the clock may step back, by one tick.
    steps_back: u8,
    removed: Option<Rule>,
}

/// What Redis holds of the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Lock {
    holder: Option<Holder>,
    fence: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Holder {
    member: Member,
    deadline: u8,
    grant: Grant,
}

/// Who holds: a process is somebody new each time that it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Member {
    process: usize,
    ask: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Client {
    Idle,
    Asking {
        since: u8,
    },
    /// The answer is under way.
    Granted {
        since: u8,
        grant: Grant,
    },
    Holding {
        until: u8,
        grant: Grant,
    },
}

/// A fence, and which grant it was, counted by nobody in the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct Grant {
    fence: u8,
    turn: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    lock: Lock,
    replica: Option<Lock>,
    failovers: u8,
    clients: [Client; CLIENTS],
    asks: [u8; CLIENTS],
    /// Time as it passes, and how far the server's clock is behind it.
    now: u8,
    behind: u8,
    /// The last write that the resource took.
    written: Grant,
    last: Grant,
    fence_fell: bool,
    earlier_wrote: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Ask(usize),
    /// The acquire arrives, perhaps again.
    Acquire(usize),
    Hear(usize),
    Write(usize),
    Release(usize),
    Tick,
    StepBack,
    StopReplication,
    FailOver,
}

impl Locks {
    fn makes(self, rule: Rule) -> bool {
        self.removed != Some(rule)
    }

    /// `sem_acquire`: answers what it has, or grants what is free or whose lease has ended.
    fn acquire(self, state: &mut State, process: usize) {
        let clock = state.now - state.behind;
        let deadline = clock + LEASE;
        let ask = state.asks[process];
        let member = Member { process, ask };
        let grant = match &mut state.lock.holder {
            Some(holder) if holder.member == member => {
                holder.deadline = deadline;
                holder.grant
            }
            Some(holder) if holder.deadline > clock => return,
            _ => {
                let grant = self.next_grant(state, clock);
                state.fence_fell |= grant.fence <= state.last.fence;
                state.last = grant;
                let holder = Holder {
                    member,
                    deadline,
                    grant,
                };
                state.lock = Lock {
                    holder: Some(holder),
                    fence: grant.fence,
                };
                grant
            }
        };
        if let Client::Asking { since } = state.clients[process] {
            state.clients[process] = Client::Granted { since, grant };
        }
    }

    fn next_grant(self, state: &State, clock: u8) -> Grant {
        let turn = state.last.turn + 1;
        let time = 4 * clock + turn; // a tick is long: two grants in one have two times in µs
        let next = state.lock.fence + 1;
        let fence = match self.removed {
            Some(Rule::TimeInFence) => next,
            Some(Rule::LastInFence) => time,
            _ => time.max(next),
        };
        Grant { fence, turn }
    }

    fn hear(self, state: &mut State, client: usize) {
        if let Client::Granted { since, grant } = state.clients[client] {
            let from = if self.makes(Rule::LeaseFromAsking) {
                since
            } else {
                state.now
            };
            let until = from + LEASE - MARGIN;
            state.clients[client] = Client::Holding { until, grant };
        }
    }

    /// A holder writes, perhaps long after its lease has ended, as it was paused after it looked at its clock.
    fn write(self, state: &mut State, client: usize) {
        let Client::Holding { grant, .. } = state.clients[client] else {
            return;
        };
        if grant.fence >= state.written.fence || !self.makes(Rule::FenceAtResource) {
            state.earlier_wrote |= grant.turn < state.written.turn;
            state.written = grant;
        }
    }

    fn release(state: &mut State, process: usize) {
        let ask = state.asks[process];
        state.clients[process] = Client::Idle;
        if state
            .lock
            .holder
            .is_some_and(|holder| holder.member == Member { process, ask })
        {
            state.lock.holder = None;
        }
    }
}

impl Model for Locks {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            lock: Lock::default(),
            replica: None,
            failovers: 0,
            clients: [Client::Idle; CLIENTS],
            asks: [0; CLIENTS],
            now: 1,
            behind: 0,
            written: Grant::default(),
            last: Grant::default(),
            fence_fell: false,
            earlier_wrote: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (i, client) in state.clients.iter().enumerate() {
            match client {
                Client::Idle if state.asks[i] < ASKS => actions.push(Action::Ask(i)),
                Client::Idle => {}
                Client::Asking { .. } => actions.push(Action::Acquire(i)),
                Client::Granted { .. } => actions.extend([Action::Acquire(i), Action::Hear(i)]),
                Client::Holding { .. } => actions.extend([Action::Write(i), Action::Release(i)]),
            }
        }
        if state.now < self.ticks {
            actions.push(Action::Tick);
        }
        if state.behind < self.steps_back {
            actions.push(Action::StepBack);
        }
        if state.replica.is_some() {
            actions.push(Action::FailOver);
        } else if state.failovers < self.failovers {
            actions.push(Action::StopReplication);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Ask(i) => {
                state.clients[i] = Client::Asking { since: state.now };
                state.asks[i] += 1;
            }
            Action::Acquire(i) => self.acquire(&mut state, i),
            Action::Hear(i) => self.hear(&mut state, i),
            Action::Write(i) => self.write(&mut state, i),
            Action::Release(i) => Self::release(&mut state, i),
            Action::Tick => state.now += 1,
            Action::StepBack => state.behind += 1,
            Action::StopReplication => state.replica = Some(state.lock),
            Action::FailOver => {
                state.lock = state.replica.take()?;
                state.failovers += 1;
            }
        }
        (state != *last).then_some(state)
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.last.turn <= 3
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always(FENCES_GROW, |_, s: &State| !s.fence_fell),
            Property::always(FENCED, |_, s: &State| !s.earlier_wrote),
            Property::sometimes("one writes after another", |_, s: &State| {
                s.written.turn == 2
            }),
        ];
        if self.failovers == 0 && self.steps_back == 0 {
            all.push(Property::always(EXCLUSION, |_, s: &State| acting(s) <= 1));
        }
        all
    }
}

/// How many believe that they hold the lock, by their own clocks.
fn acting(s: &State) -> usize {
    let acts = |client: &&Client| matches!(client, Client::Holding { until, .. } if *until > s.now);
    s.clients.iter().filter(acts).count()
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask(i) => write!(f, "process {i} asks for the lock"),
            Self::Acquire(i) => write!(f, "the acquire of process {i} arrives"),
            Self::Hear(i) => write!(f, "process {i} hears that it has the lock"),
            Self::Write(i) => write!(f, "process {i} writes to the resource"),
            Self::Release(i) => write!(f, "process {i} releases the lock"),
            Self::Tick => write!(f, "a third of a lease passes"),
            Self::StepBack => write!(f, "the clock steps back by a third of a lease"),
            Self::StopReplication => write!(f, "the replica gets nothing from here on"),
            Self::FailOver => write!(f, "the replica takes over"),
        }
    }
}

const PLAIN: Locks = Locks {
    ticks: 6,
    failovers: 0,
    steps_back: 0,
    removed: None,
};

const FAILOVER: Locks = Locks {
    ticks: 4,
    failovers: 1,
    ..PLAIN
};

const STEP_BACK: Locks = Locks {
    steps_back: 1,
    ticks: 4,
    ..PLAIN
};

#[test]
fn a_lock_is_held_by_one_and_its_fence_grows() {
    assert_holds("locks", PLAIN);
    assert_holds("locks over a failover", FAILOVER);
    assert_holds("locks under a clock that steps back", STEP_BACK);
}

#[test]
fn each_rule_of_locks_is_needed() {
    for (rule, property, model) in [
        (Rule::TimeInFence, FENCED, FAILOVER),
        (Rule::TimeInFence, FENCES_GROW, FAILOVER),
        (Rule::LastInFence, FENCES_GROW, STEP_BACK),
        (Rule::FenceAtResource, FENCED, PLAIN),
        (Rule::LeaseFromAsking, EXCLUSION, PLAIN),
    ] {
        let model = Locks {
            removed: Some(rule),
            ..model
        };
        assert_breaks(&format!("without {rule:?}"), property, &model);
    }
}
