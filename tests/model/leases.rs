//! The model of the lease protocol: one task, two workers, a broker that may be away or fail over, and what may happen next.

use std::fmt;

use stateright::{Model, Property};

use crate::broker::{Beat, Broker, Outcome, Place, Server};
use crate::check::{Check, Moment};
use crate::network::{Call, Network};
use crate::properties;
use crate::worker::{End, Heard, Worker};

pub(crate) const WORKERS: u8 = 2;

/// How far the model looks, and what may go wrong in it.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a question of its own, in any combination"
)]
pub(crate) struct Leases {
    /// How long the clock goes on, in thirds of a lease.
    pub(crate) ticks: u8,
    /// How often the task is granted at most.
    pub(crate) grants: u8,
    /// How often a worker goes on as somebody new, at most.
    pub(crate) lives: u8,
    pub(crate) crashes: u8,
    pub(crate) outages: u8,
    pub(crate) failovers: u8,
    /// Whether runs fail or are handed back, or all end well.
    pub(crate) may_fail: bool,
    /// Whether a copy of a claim may arrive after the broker has forgotten its worker.
    pub(crate) stale_claims: bool,
    /// Whether worker 0 always holds something else as well, so that it never lets its row end.
    pub(crate) busy: bool,
    /// Whether the task is on the first of the two pages that `reclaim` walks; after a failover it is on the other.
    pub(crate) on_first_page: bool,
    pub(crate) removed: Option<Check>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, in any combination"
)]
pub(crate) struct State {
    pub(crate) broker: Broker,
    /// What the replica has got; it hears nothing more.
    replica: Option<Broker>,
    pub(crate) failovers: u8,
    pub(crate) workers: Vec<Worker>,
    pub(crate) network: Network,
    now: u8,
    /// How often the task was granted.
    fine: u8,
    pub(crate) away: bool,
    outages: u8,
    /// The submit has arrived, so the producer may know that the task is in.
    pub(crate) acknowledged: bool,
    /// The highest token that was ever granted, and whether one was not higher.
    highest: u8,
    pub(crate) token_fell: bool,
    /// A worker was told that its lease is good after its run had been taken back.
    pub(crate) told_wrong: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A call arrives, and who sent it hears the answer.
    Arrive(Call),
    /// A call arrives whose answer is lost, or for which nobody waits any more.
    ArriveUnheard(Call),
    /// Somebody calls `reclaim`.
    Reclaim,
    End(u8, End),
    Crash(u8),
    Tick,
    GoAway,
    ComeBack,
    /// The replica gets nothing from here on.
    StopReplication,
    FailOver,
}

impl Leases {
    pub(crate) fn moment(&self, state: &State) -> Moment {
        Moment {
            now: state.now,
            fine: state.fine + 1,
            removed: self.removed,
        }
    }

    pub(crate) fn server(&self, state: &State) -> Server {
        Server {
            run: state.failovers,
            on_first_page: self.on_first_page != (state.failovers % 2 == 1),
        }
    }

    /// A call arrives; if `heard`, who sent it goes by the answer.
    pub(crate) fn arrive(&self, state: &mut State, call: Call, heard: bool) {
        let at = self.moment(state);
        let State {
            broker, network, ..
        } = state;
        match call {
            Call::Submit => {
                broker.submit(at);
                state.acknowledged = true;
            }
            Call::Claim(who, number) => {
                let before = broker.grant.clone();
                let answer = broker.claim(who, number, at);
                if broker.grant != before {
                    state.token_fell |= broker.grant.token <= state.highest;
                    state.highest = state.highest.max(broker.grant.token);
                    state.fine += 1;
                }
                if heard {
                    state.workers[usize::from(who.worker)].hear_claimed(answer, network);
                }
            }
            Call::Heartbeat(who, idle) => {
                let beat = broker.heartbeat(who, idle, at);
                let worker = &mut state.workers[usize::from(who.worker)];
                if heard {
                    let still = worker.run().map(Place::Running) == Some(broker.place);
                    state.told_wrong |= beat != Beat::Lost && worker.works() && !still;
                    let server = state.failovers;
                    if worker.hear_beat(Heard { who, beat, server }, at) {
                        worker.lose(who, network);
                    }
                }
            }
            Call::Finish(run, outcome) => {
                broker.finish(run, outcome, at);
                if heard {
                    state.workers[usize::from(run.who.worker)].hear_end(network);
                }
            }
            Call::Release(run) => {
                broker.release(run);
                if heard {
                    state.workers[usize::from(run.who.worker)].hear_end(network);
                }
            }
        }
    }

    pub(crate) fn tick(state: &mut State) {
        state.now += 1;
        if !state.away {
            state.broker.let_pass();
        }
    }

    /// Whether this copy of a claim comes after the broker has forgotten its worker.
    fn is_stale(state: &State, call: Call) -> bool {
        let Call::Claim(who, number) = call else {
            return false;
        };
        let worker = &state.workers[usize::from(who.worker)];
        let passed = worker.who() != who || worker.number() >= number;
        passed && state.broker.row(who).is_none()
    }

    fn push_calls(&self, state: &State, actions: &mut Vec<Action>) {
        for call in state.network.sent() {
            if !self.stale_claims && Self::is_stale(state, call) {
                continue;
            }
            if state.workers.iter().any(|worker| worker.awaits(call)) {
                actions.push(Action::Arrive(call));
            }
            actions.push(Action::ArriveUnheard(call));
        }
    }

    fn push_faults(&self, state: &State, actions: &mut Vec<Action>) {
        let crashed = state.workers.iter().filter(|worker| worker.crashed).count();
        if state.away {
            actions.push(Action::ComeBack);
        } else if state.outages < self.outages {
            actions.push(Action::GoAway);
        }
        for (i, worker) in (0..).zip(&state.workers) {
            if !worker.crashed && crashed < usize::from(self.crashes) {
                actions.push(Action::Crash(i));
            }
        }
        if state.replica.is_some() {
            actions.push(Action::FailOver);
        } else if state.failovers < self.failovers {
            actions.push(Action::StopReplication);
        }
    }
}

impl Model for Leases {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut network = Network::default();
        network.send(Call::Submit);
        let workers = (0..WORKERS)
            .map(|i| Worker::start(i, self.busy && i == 0, &mut network))
            .collect();
        vec![State {
            broker: Broker::new(),
            replica: None,
            failovers: 0,
            workers,
            network,
            now: 0,
            fine: 0,
            away: false,
            outages: 0,
            acknowledged: false,
            highest: 0,
            token_fell: false,
            told_wrong: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if !state.away {
            self.push_calls(state, actions);
            actions.push(Action::Reclaim);
        }
        for (i, worker) in (0..).zip(&state.workers) {
            if worker.works() && !worker.crashed {
                actions.push(Action::End(i, End::Finish(Outcome::Ok)));
                if self.may_fail {
                    actions.push(Action::End(i, End::Finish(Outcome::Failed)));
                    actions.push(Action::End(i, End::Release));
                }
            }
        }
        if state.now < self.ticks {
            actions.push(Action::Tick);
        }
        self.push_faults(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let state = &mut next;
        match action {
            Action::Arrive(call) => self.arrive(state, call, true),
            Action::ArriveUnheard(call) => self.arrive(state, call, false),
            Action::Reclaim => {
                let (server, at) = (self.server(state), self.moment(state));
                state.broker.reclaim(server, at);
            }
            Action::End(i, end) => state.workers[usize::from(i)].end(end, &mut state.network),
            Action::Crash(i) => state.workers[usize::from(i)].crashed = true,
            Action::Tick => Self::tick(state),
            Action::GoAway => {
                state.away = true;
                state.outages += 1;
            }
            Action::ComeBack => state.away = false,
            Action::StopReplication => state.replica = Some(state.broker.clone()),
            Action::FailOver => {
                state.broker = state.replica.take()?;
                state.failovers += 1;
            }
        }
        (next != *last).then_some(next)
    }

    fn within_boundary(&self, state: &State) -> bool {
        let lives = |worker: &Worker| worker.who().life < self.lives;
        state.fine <= self.grants && state.workers.iter().all(lives)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::of(self)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arrive(call) => write!(f, "{call} arrives and is answered"),
            Self::ArriveUnheard(call) => write!(f, "{call} arrives; its answer is not heard"),
            Self::Reclaim => write!(f, "somebody calls reclaim"),
            Self::End(i, End::Finish(Outcome::Ok)) => write!(f, "worker {i}'s run ends well"),
            Self::End(i, End::Finish(Outcome::Failed)) => write!(f, "worker {i}'s run fails"),
            Self::End(i, End::Release) => write!(f, "worker {i} hands its run back"),
            Self::Crash(i) => write!(f, "worker {i} dies"),
            Self::Tick => write!(f, "a third of a lease passes"),
            Self::GoAway => write!(f, "the broker goes away"),
            Self::ComeBack => write!(f, "the broker is back"),
            Self::StopReplication => write!(f, "the replica gets nothing from here on"),
            Self::FailOver => write!(f, "the replica takes over"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |who: &crate::broker::Who| format!("worker {} (life {})", who.worker, who.life);
        match self {
            Self::Submit => write!(f, "the submit"),
            Self::Claim(who, number) => write!(f, "claim {number} of {}", name(who)),
            Self::Heartbeat(who, None) => write!(f, "a heartbeat of {}", name(who)),
            Self::Heartbeat(who, Some(_)) => write!(f, "an idle heartbeat of {}", name(who)),
            Self::Finish(run, outcome) => {
                let how = if *outcome == Outcome::Ok {
                    "ok"
                } else {
                    "failed"
                };
                write!(
                    f,
                    "finish ({how}) of {}, token {},",
                    name(&run.who),
                    run.token
                )
            }
            Self::Release(run) => write!(f, "release of {}, token {},", name(&run.who), run.token),
        }
    }
}
