//! A worker with one slot: what it knows, and what it makes of the broker's answers. It may be paused between any two
//! steps, for as long as it likes.

use crate::broker::{Beat, Claimed, Outcome, Run, Who};
use crate::check::{Check, Moment};
use crate::network::{Call, Network};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    who: Who,
    /// The last claim that brought the task, and its token.
    number: u8,
    token: u8,
    pub(crate) crashed: bool,
    /// Its claims bring other tasks as well, of which some never end before it goes on as somebody new.
    busy: bool,
    /// A run of this life has ended.
    ended: bool,
    /// What the server had lived through when it was last heard.
    history: u8,
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

/// What a heartbeat of one of its lives hears from a server that has lived through so many failovers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) who: Who,
    pub(crate) beat: Beat,
    pub(crate) server: u8,
}

impl Worker {
    /// Begins to claim.
    pub(crate) fn start(worker: u8, busy: bool, network: &mut Network) -> Self {
        let mut new = Self {
            who: Who { worker, life: 0 },
            number: 0,
            token: 0,
            crashed: false,
            busy,
            ended: false,
            history: 0,
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
        let beats = call == self.beat() || Some(call) == self.former_beat();
        match &self.held {
            None => beats || call == self.next_claim(),
            Some(held) => beats || Some(call) == held.end,
        }
    }

    pub(crate) fn next_claim(&self) -> Call {
        Call::Claim(self.who, self.number + 1)
    }

    /// It beats over and over while it holds a run, and then once.
    pub(crate) fn beat(&self) -> Call {
        let holds = |held: &Held| held.run.who == self.who;
        let is_busy = self.busy && self.number > 0;
        let idle = !(is_busy || self.held.as_ref().is_some_and(holds));
        Call::Heartbeat(self.who, idle.then_some(self.number))
    }

    /// The same for a former life whose run goes on.
    pub(crate) fn former_beat(&self) -> Option<Call> {
        let run = self.run().filter(|run| run.who != self.who)?;
        Some(Call::Heartbeat(run.who, None))
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

    /// It goes on as somebody new.
    fn renew(&mut self) {
        self.who.life += 1;
        (self.number, self.token, self.ended) = (0, 0, false);
    }

    /// The lease of one of its lives has ended: it stops what it runs of that.
    pub(crate) fn lose(&mut self, lost: Who, network: &mut Network) {
        if self.who == lost {
            self.renew();
        }
        if self.run().is_none_or(|run| run.who == lost) {
            self.be_free(network);
        }
    }

    pub(crate) fn hear_claimed(&mut self, answer: Claimed, network: &mut Network) {
        match answer {
            Claimed::Nothing => {}
            Claimed::Lost => self.lose(self.who, network),
            Claimed::Task { token } => {
                self.number += 1;
                self.token = token;
                let who = self.who;
                self.held = Some(Held {
                    run: Run { who, token },
                    end: None,
                });
                network.send(self.beat());
            }
        }
    }

    /// Answers whether the lease was lost under a run.
    pub(crate) fn hear_beat(&mut self, heard: Heard, at: Moment) -> bool {
        let Heard { who, beat, server } = heard;
        match beat {
            Beat::Lost => return self.run().is_some_and(|run| run.who == who) || self.busy,
            Beat::Good { number, token } if who == self.who => {
                let other_history = server != self.history && at.makes(Check::HistoryInHeartbeat);
                let other_grant =
                    number < self.number || number == self.number && token != self.token;
                self.history = server;
                if other_history && self.ended || other_grant && at.makes(Check::GrantInHeartbeat) {
                    self.renew();
                }
            }
            Beat::Good { .. } => {}
        }
        false
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
        self.ended |= self.run().is_some_and(|run| run.who == self.who);
        self.be_free(network);
    }
}
