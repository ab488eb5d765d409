//! A worker with one slot: what it knows, and what it makes of the broker's answers. It may be paused between any two
//! steps, for as long as it likes.

use crate::broker::{Claimed, Outcome, Run, Who};
use crate::network::{Call, Network};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    who: Who,
    /// The last claim that brought the task.
    number: u8,
    pub(crate) crashed: bool,
    held: Option<Held>,
}

/// The run in its slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Held {
    run: Run,
    /// The call that ends it, sent until it is answered.
    end: Option<Call>,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Finish(Outcome),
    Release,
}

impl Worker {
    /// Begins to claim.
    pub(crate) fn start(worker: u8, network: &mut Network) -> Self {
        let mut new = Self {
            who: Who { worker, life: 0 },
            number: 0,
            crashed: false,
            held: None,
        };
        new.be_free(network);
        new
    }

    pub(crate) fn who(&self) -> Who {
        self.who
    }

    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// The run that it works on, or whose end it has not heard to be known.
    pub(crate) fn run(&self) -> Option<Run> {
        self.held.as_ref().map(|held| held.run)
    }

    /// Whether it works on a run that has not ended.
    pub(crate) fn works(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.end.is_none())
    }

    /// The calls whose answers it waits for now.
    pub(crate) fn awaits(&self, call: Call) -> bool {
        if self.crashed {
            return false;
        }
        match &self.held {
            None => call == self.next_claim() || call == self.beat(),
            Some(held) => Some(call) == held.end || call == self.beat(),
        }
    }

    pub(crate) fn next_claim(&self) -> Call {
        Call::Claim(self.who, self.number + 1)
    }

    /// It beats over and over while it holds a run, and then once.
    pub(crate) fn beat(&self) -> Call {
        let idle = self.held.is_none().then_some(self.number);
        Call::Heartbeat(self.who, idle)
    }

    pub(crate) fn end_call(&self) -> Option<Call> {
        self.held.as_ref().and_then(|held| held.end)
    }

    fn be_free(&mut self, network: &mut Network) {
        self.held = None;
        network.send(self.next_claim());
        if self.number > 0 {
            network.send(self.beat());
        }
    }

    /// Its lease has ended: it stops what it runs, and goes on as somebody new.
    fn lose(&mut self, network: &mut Network) {
        self.who.life += 1;
        self.number = 0;
        self.be_free(network);
    }

    pub(crate) fn hear_claimed(&mut self, answer: Claimed, network: &mut Network) {
        match answer {
            Claimed::Nothing => {}
            Claimed::Lost => self.lose(network),
            Claimed::Task { token } => {
                self.number += 1;
                let who = self.who;
                self.held = Some(Held {
                    run: Run { who, token },
                    end: None,
                });
                network.send(self.beat());
            }
        }
    }

    pub(crate) fn hear_beat(&mut self, good: bool, network: &mut Network) {
        if !good && self.held.is_some() {
            self.lose(network);
        }
    }

    /// Its run has ended so; it says so until it is answered.
    pub(crate) fn end(&mut self, end: End, network: &mut Network) {
        if let Some(held) = &mut self.held {
            let call = match end {
                End::Finish(outcome) => Call::Finish(held.run, outcome),
                End::Release => Call::Release(held.run),
            };
            held.end = Some(call);
            network.send(call);
        }
    }

    pub(crate) fn hear_end(&mut self, network: &mut Network) {
        self.be_free(network);
    }
}
