//! What Redis holds of one task and its workers, and the functions that change it, check by check as in `broker/lua`.

use crate::check::{Check, Moment};

/// Ticks of the clock: one is a third of a lease, so an outage, noticed after two fifths, is one of two ticks or more.
pub(crate) const LEASE: u8 = 3;
/// How often the task may fail, and how many of its workers may die.
pub(crate) const ATTEMPTS: u8 = 2;
pub(crate) const CRASHES: u8 = 2;

/// An incarnation: one life of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Who {
    pub(crate) worker: u8,
    pub(crate) life: u8,
}

/// A running value: who runs the task, under which token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Run {
    pub(crate) who: Who,
    pub(crate) token: u8,
}

/// Where the one task of the model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Unknown,
    Ready,
    Scheduled { due: u8 },
    Running(Run),
    Done { token: u8 },
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lease {
    Until(u8),
    /// Marked by `reclaim`: gone after this turn of the walk, or after the next one.
    Ended {
        this_turn: bool,
    },
}

/// What is known of one incarnation: its rows in `workers` and `claims`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) who: Who,
    pub(crate) lease: Lease,
    /// Its last claim that brought the task, and that grant's token.
    pub(crate) number: u8,
    token: u8,
    /// It said that it holds nothing.
    idle: bool,
    /// For the properties: a tick has passed since it was heard, and the broker was there.
    silent: bool,
}

/// The newest grant, for the properties: what no function reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Grant {
    pub(crate) token: u8,
    /// The number of its claim.
    pub(crate) number: u8,
    /// The broker knew its worker before.
    pub(crate) to_known: bool,
    /// It has not been taken back, given back or ended.
    pub(crate) open: bool,
}

/// All that one shard of a queue holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Broker {
    pub(crate) place: Place,
    pub(crate) rows: Vec<Row>,
    pub(crate) failures: u8,
    pub(crate) crashes: u8,
    last_token: u8,
    seen: Option<u8>,
    grace: u8,
    /// The walk of `reclaim` is past the first of two pages.
    walking: bool,
    /// The server on which it began.
    walked_on: u8,
    /// Completions that were accepted, or made by the broker.
    pub(crate) completions: u8,
    pub(crate) grant: Grant,
    pub(crate) returned: u8,
    /// What happened that must not; for the properties.
    pub(crate) wrong: Wrong,
}

/// What a function did that it must never do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Wrong {
    /// A finish was accepted whose token was not the newest.
    pub(crate) old_token: bool,
    /// A finish was accepted of a run that had been taken or given back.
    pub(crate) lost_run: bool,
    /// A lease ended though its worker had been heard within the last tick that the broker was there.
    pub(crate) cut_off: bool,
}

/// What a heartbeat answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// The lease is good, and this was the last claim: its number, its token.
    Good {
        number: u8,
        token: u8,
    },
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claimed {
    Task { token: u8 },
    Nothing,
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Ok,
    Failed,
}

impl Broker {
    pub(crate) fn new() -> Self {
        Self {
            place: Place::Unknown,
            rows: Vec::new(),
            failures: 0,
            crashes: 0,
            last_token: 0,
            seen: None,
            grace: 0,
            walking: false,
            walked_on: 0,
            completions: 0,
            grant: Grant::default(),
            returned: 0,
            wrong: Wrong::default(),
        }
    }

    pub(crate) fn row(&self, who: Who) -> Option<&Row> {
        self.rows.iter().find(|row| row.who == who)
    }

    fn row_mut(&mut self, who: Who) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.who == who)
    }

    /// A tick has passed, for the properties: nobody has been heard in it yet.
    pub(crate) fn let_pass(&mut self) {
        for row in &mut self.rows {
            row.silent = true;
        }
    }

    /// The last call of any worker lies here; after a gap no lease ends for half as long again, one lease at most.
    fn see(&mut self, at: Moment) {
        if self.was_away(at) {
            self.grace = at.now + (self.gap(at) * 3 / 2).min(LEASE);
        }
        self.seen = Some(at.now);
    }

    fn gap(&self, at: Moment) -> u8 {
        self.seen.map_or(0, |seen| at.now - seen)
    }

    fn was_away(&self, at: Moment) -> bool {
        at.makes(Check::OutageRule) && 5 * self.gap(at) > 2 * LEASE
    }

    /// When a lease ends that is renewed now. The clock of worker 0 is a lease behind.
    fn deadline(who: Who, at: Moment) -> Lease {
        let behind = !at.makes(Check::ServerClock) && who.worker == 0;
        Lease::Until(if behind { at.now } else { at.now + LEASE })
    }

    pub(crate) fn submit(&mut self, at: Moment) {
        let known = self.place != Place::Unknown;
        if !known || !at.makes(Check::IdInSubmit) {
            self.place = Place::Ready;
        }
    }

    pub(crate) fn claim(&mut self, who: Who, number: u8, at: Moment) -> Claimed {
        let row = self.row(who);
        if matches!(row.map(|row| row.lease), Some(Lease::Ended { .. })) {
            return Claimed::Lost;
        }
        let last = row.map_or(0, |row| row.number);
        if number <= last && at.makes(Check::NumberInClaim) {
            return match self.place {
                Place::Running(run) if run.who == who && number == last => {
                    Claimed::Task { token: run.token }
                }
                _ => Claimed::Nothing,
            };
        }
        self.see(at);
        if matches!(self.place, Place::Scheduled { due } if due <= at.now) {
            self.place = Place::Ready;
        }
        if self.place != Place::Ready {
            return Claimed::Nothing;
        }
        let token = self.next_token(at);
        self.grant(Run { who, token }, number, at);
        Claimed::Task { token }
    }

    fn next_token(&self, at: Moment) -> u8 {
        if !at.makes(Check::TokenIsNoAttempt) {
            self.failures + self.crashes + 1
        } else if at.makes(Check::TimeInToken) {
            (self.last_token + 1).max(at.fine)
        } else {
            self.last_token + 1
        }
    }

    fn grant(&mut self, run: Run, number: u8, at: Moment) {
        let to_known = self.row(run.who).is_some();
        self.grant = Grant {
            token: run.token,
            number,
            to_known,
            open: true,
        };
        self.last_token = run.token;
        self.place = Place::Running(run);
        if !at.makes(Check::LeaseInClaim) {
            return;
        }
        self.rows.retain(|row| row.who != run.who);
        self.rows.push(Row {
            who: run.who,
            lease: Self::deadline(run.who, at),
            number,
            token: run.token,
            idle: false,
            silent: false,
        });
        self.rows.sort_by_key(|row| row.who);
    }

    /// Renews a lease; with `idle`, the number of its last claim, the worker says that it holds nothing.
    pub(crate) fn heartbeat(&mut self, who: Who, idle: Option<u8>, at: Moment) -> Beat {
        if !at.makes(Check::LeaseInClaim) {
            let (number, token) = (u8::MAX, 0);
            return Beat::Good { number, token };
        }
        let row = self.row(who);
        let Some((number, token)) = row.and_then(|row| match row.lease {
            Lease::Until(_) => Some((row.number, row.token)),
            Lease::Ended { .. } => None,
        }) else {
            return Beat::Lost;
        };
        self.see(at);
        let deadline = Self::deadline(who, at);
        let row = self.row_mut(who).expect("it has just been found");
        if idle.is_none() {
            row.lease = deadline;
            row.silent = false;
        } else if idle == Some(row.number) {
            row.idle = true;
        }
        Beat::Good { number, token }
    }

    pub(crate) fn finish(&mut self, run: Run, outcome: Outcome, at: Moment) {
        let holds = match self.place {
            Place::Running(_) if !at.makes(Check::RunInFinish) => true,
            Place::Running(held) if !at.makes(Check::TokenInFinish) => held.who == run.who,
            Place::Running(held) => held == run,
            _ => false,
        };
        if !holds {
            return;
        }
        self.wrong.old_token |= run.token != self.grant.token;
        self.wrong.lost_run |= run.token != self.grant.token || !self.grant.open;
        self.grant.open = false;
        if outcome == Outcome::Failed {
            self.failures += 1;
        }
        if outcome == Outcome::Failed && self.failures < ATTEMPTS {
            self.place = Place::Scheduled { due: at.now + 1 };
        } else {
            self.completions += 1;
            self.place = match outcome {
                Outcome::Ok => Place::Done { token: run.token },
                Outcome::Failed => Place::Dead,
            };
        }
    }

    pub(crate) fn release(&mut self, run: Run) {
        if self.place == Place::Running(run) {
            self.place = Place::Ready;
            self.grant.open = false;
            self.returned += 1;
        }
    }
}

/// Which server walks, and in which page of its hash the task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) run: u8,
    pub(crate) on_first_page: bool,
}

impl Broker {
    /// One call of `reclaim`: marks who has ended, walks a page, and after a full turn lets the marked rows go.
    pub(crate) fn reclaim(&mut self, server: Server, at: Moment) {
        if self.was_away(at) || self.grace > at.now {
            return self.see(at);
        }
        if self.walking && self.walked_on != server.run && at.makes(Check::ServerInWalk) {
            self.walking = false;
            self.begin_turn();
        }
        self.sort_rows(at);
        let ended: Vec<Who> = self.ended(at).map(|row| row.who).collect();
        if ended.is_empty() {
            return;
        }
        if server.on_first_page != self.walking {
            self.take_back(&ended);
        }
        if self.walking {
            self.rows.retain(|row| {
                let over = matches!(row.lease, Lease::Until(until) if until <= at.now);
                row.lease != Lease::Ended { this_turn: true } && !over
            });
            self.begin_turn();
        }
        self.walking = !self.walking;
        self.walked_on = server.run;
    }

    /// Rows that were marked for the next turn have theirs now.
    fn begin_turn(&mut self) {
        for row in &mut self.rows {
            if matches!(row.lease, Lease::Ended { .. }) {
                row.lease = Lease::Ended { this_turn: true };
            }
        }
    }

    /// Marks the ended rows; those of idle workers go at once where no walk is made for them.
    fn sort_rows(&mut self, at: Moment) {
        let this_turn = !self.walking;
        let mut cut_off = false;
        self.rows.retain_mut(|row| {
            if !matches!(row.lease, Lease::Until(until) if until <= at.now) {
                return true;
            }
            cut_off |= !row.silent;
            if at.makes(Check::MarkInReclaim) {
                row.lease = Lease::Ended { this_turn };
            }
            !row.idle || at.makes(Check::WalkForIdle)
        });
        self.wrong.cut_off |= cut_off;
    }

    fn ended(&self, at: Moment) -> impl Iterator<Item = &Row> {
        let now = at.now;
        self.rows.iter().filter(move |row| match row.lease {
            Lease::Ended { .. } => true,
            Lease::Until(until) => until <= now,
        })
    }

    fn take_back(&mut self, ended: &[Who]) {
        let Place::Running(run) = self.place else {
            return;
        };
        if !ended.contains(&run.who) {
            return;
        }
        self.grant.open = false;
        self.crashes += 1;
        self.place = Place::Ready;
        if self.crashes >= CRASHES {
            self.place = Place::Dead;
            self.completions += 1;
        }
    }
}
