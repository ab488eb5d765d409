//! Does the faults of a schedule, restarts who falls, and looks at the queues all the while.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::crew::Crew;
use super::fault::{Fault, Kind};
use super::mutant::Mutant;
use super::site::Site;
use super::snapshot;
use crate::history::{Effects, Recorder, What};

pub(super) const TICK: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_millis(300);

/// A run under way.
pub struct Conductor {
    /// The server.
    pub site: Site,
    /// The processes.
    pub crew: Crew,
    /// Where the faults are written down.
    pub recorder: Recorder,
    /// The task queues.
    pub queues: Vec<String>,
    /// What a power cut may lose, in ms.
    pub loses_ms: u64,
    /// A broken library that its client declares too few keys for.
    pub mutant: Option<Mutant>,
    /// Ids that the harness itself pushed into Redis.
    pub junk: BTreeSet<Vec<u8>>,
    /// Places whose process is down, or stands, because of a fault.
    pub down: BTreeSet<String>,
    /// What went wrong that no fault explains.
    pub mishaps: Vec<String>,
    /// When it last looked at the queues.
    pub looked: Instant,
    /// For how long it stood still itself, on a machine that is busy.
    pub late: Duration,
}

impl Conductor {
    /// Goes through the faults until all of them are over.
    pub fn conduct(&mut self, faults: &[Fault], window: Duration) -> Result<()> {
        let begin = Instant::now();
        let mut acts: Vec<(Duration, bool, &Fault)> = Vec::new();
        for fault in faults {
            acts.push((fault.at, true, fault));
            acts.push((fault.at + fault.lasts, false, fault));
        }
        acts.sort_by_key(|(at, ..)| *at);
        let mut acts = acts.into_iter().peekable();
        while acts.peek().is_some() || begin.elapsed() < window {
            while let Some((_, on, fault)) = acts.next_if(|(at, ..)| *at <= begin.elapsed()) {
                self.act(fault, on)?;
            }
            self.turn()?;
        }
        Ok(())
    }

    /// One moment in which nothing is done on purpose.
    pub fn turn(&mut self) -> Result<()> {
        self.tend()?;
        self.look();
        let begin = Instant::now();
        sleep(TICK);
        self.late += begin.elapsed().saturating_sub(TICK);
        Ok(())
    }

    /// Writes a fault's begin or end down.
    fn note(&self, fault: &Fault, target: &str, on: bool) {
        let effects = fault.kind.effects(self.loses_ms);
        let (name, target) = (fault.kind.name().to_owned(), target.to_owned());
        self.recorder.record(What::Fault {
            name,
            target,
            on,
            effects,
        });
    }

    fn act(&mut self, fault: &Fault, on: bool) -> Result<()> {
        match fault.kind.place() {
            Some(_) => self.act_on_member(fault, on),
            None if on => {
                self.note(fault, &fault.target, true);
                self.hit_broker(fault)
            }
            None => {
                self.mend_broker(fault)?;
                self.note(fault, &fault.target, false);
                Ok(())
            }
        }
    }

    fn act_on_member(&mut self, fault: &Fault, on: bool) -> Result<()> {
        let place = &fault.target;
        let actor = self.crew.actor(place);
        if on && self.down.contains(place) {
            return Ok(()); // another fault has it
        }
        if on {
            if let Kind::KillAt(_, step) = fault.kind
                && !self.catch(place, step)
            {
                return Ok(()); // it had nothing to do
            }
            self.note(fault, &actor, true);
            self.hit_member(fault, place);
        } else {
            self.mend_member(fault, place)?;
            self.note(fault, &actor, false);
        }
        Ok(())
    }

    /// Starts processes again that ended by themselves, as a supervisor would.
    fn tend(&mut self) -> Result<()> {
        for (place, last) in self.crew.fallen() {
            if self.down.contains(&place) {
                continue;
            }
            let (name, target) = ("death".to_owned(), self.crew.actor(&place));
            if !last.is_empty() {
                self.mishaps.push(format!("{target} ended: {last}"));
            }
            let effects = Effects {
                ends_leases: true,
                ..Effects::default()
            };
            self.recorder.record(What::Fault {
                name,
                target,
                on: true,
                effects,
            });
            self.crew.start(&place)?;
        }
        Ok(())
    }

    /// Writes down where the tasks of each queue are, once in a while.
    fn look(&mut self) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        for queue in self.queues.clone() {
            if let Some(shard) = snapshot::read(&mut self.site, &queue, &self.junk) {
                self.recorder.record(snapshot::event(&queue, &shard));
            }
        }
    }
}
