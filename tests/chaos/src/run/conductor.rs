//! Does the faults of a schedule, restarts who falls, and looks at the queues all the while.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use pmq_broker::TaskId;

use super::clock;
use super::crew::Crew;
use super::fault::{Fault, Kind};
use super::junk;
use super::power;
use super::site::Site;
use super::snapshot;
use crate::history::{Effects, Recorder, What};

const TICK: Duration = Duration::from_millis(20);
/// In seconds.
const CLOCK_JUMP: i64 = 30;
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
    /// Ids that the harness itself pushed into Redis.
    pub junk: BTreeSet<Vec<u8>>,
    /// Places whose process is down, or stands, because of a fault.
    pub down: BTreeSet<String>,
    /// What went wrong that no fault explains.
    pub mishaps: Vec<String>,
    /// When it last looked at the queues.
    pub looked: Instant,
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
        sleep(TICK);
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
            self.note(fault, &actor, true);
            self.hit_member(fault, place);
        } else {
            self.mend_member(fault, place)?;
            self.note(fault, &actor, false);
        }
        Ok(())
    }

    fn hit_member(&mut self, fault: &Fault, place: &str) {
        let lease_ms = fault.lasts.as_millis() as u64;
        if let Some(member) = self.crew.members.get(place)
            && let Some(proxy) = &member.proxy
        {
            match fault.kind {
                Kind::Cut(_) => proxy.cut(),
                Kind::Hole(_) => proxy.hole(true),
                Kind::Delay(_) => proxy.delay(Duration::from_millis(20 + lease_ms % 200)),
                Kind::LoseReplies(_) => proxy.drop_next_reply(),
                _ => {}
            }
        }
        let Some(process) = self.crew.process(place) else {
            return;
        };
        match fault.kind {
            Kind::Kill(_) => process.kill(),
            Kind::Pause(_) | Kind::LongPause(_) => process.stop(),
            Kind::Retire(_) => process.terminate(),
            _ => return,
        }
        self.down.insert(place.to_owned());
    }

    fn mend_member(&mut self, fault: &Fault, place: &str) -> Result<()> {
        if let Some(proxy) = self
            .crew
            .members
            .get(place)
            .and_then(|member| member.proxy.as_ref())
        {
            proxy.hole(false);
            proxy.delay(Duration::ZERO);
        }
        if !self.down.remove(place) {
            return Ok(());
        }
        match fault.kind {
            Kind::Pause(_) | Kind::LongPause(_) => {
                if let Some(process) = self.crew.process(place) {
                    process.resume();
                }
                Ok(())
            }
            Kind::Retire(_) => {
                self.mishaps.extend(self.crew.dismiss(place));
                self.crew.start(place)
            }
            Kind::Kill(_) => self.crew.start(place),
            _ => Ok(()),
        }
    }

    fn hit_broker(&mut self, fault: &Fault) -> Result<()> {
        match fault.kind {
            Kind::KillBroker | Kind::LongOutage | Kind::KillPrimary => {
                self.site.up = false;
                self.site.server_mut().kill();
            }
            Kind::PauseBroker | Kind::PausePrimary => {
                self.site.up = false;
                self.site.server_mut().stop();
            }
            Kind::PowerCut => {
                self.site.up = false;
                power::cut(&mut self.site)?;
            }
            Kind::IsolatePrimary => {
                self.site.up = false;
                self.site.isolate(true);
            }
            Kind::MoveSlot => self.site.move_slot(),
            Kind::ClockAhead => clock::jump(&mut self.site, CLOCK_JUMP),
            Kind::ClockBehind => clock::jump(&mut self.site, -CLOCK_JUMP),
            Kind::FlushAll => self.tell(redis::cmd("FLUSHALL").arg("SYNC")),
            Kind::FlushFunctions => {
                for _ in 0..5 {
                    self.tell(redis::cmd("FUNCTION").arg("FLUSH"));
                    sleep(TICK);
                }
            }
            Kind::FullMemory => self.fill_memory(),
            Kind::FullDisk => power::fill_disk(&self.site)?,
            Kind::Junk => self.push_junk(fault.at.as_nanos() as u64),
            _ => {}
        }
        Ok(())
    }

    fn mend_broker(&mut self, fault: &Fault) -> Result<()> {
        match fault.kind {
            Kind::KillBroker | Kind::LongOutage | Kind::PowerCut => {
                self.site.server_mut().restart();
            }
            Kind::PauseBroker => self.site.server_mut().resume(),
            Kind::FullMemory => self.tell(redis::cmd("CONFIG").arg(&["SET", "maxmemory", "0"])),
            Kind::FullDisk => power::empty_disk(&self.site)?,
            Kind::ClockAhead | Kind::ClockBehind => clock::jump(&mut self.site, 0),
            Kind::KillPrimary | Kind::PausePrimary | Kind::IsolatePrimary => {
                self.replace_primary(fault.kind);
            }
            _ => {}
        }
        self.site.up = true;
        Ok(())
    }

    /// Lets the old primary come back once another one has taken over.
    fn replace_primary(&mut self, kind: Kind) {
        self.site.wait_for_failover();
        match kind {
            Kind::KillPrimary => self.site.server_mut().restart(),
            Kind::PausePrimary => self.site.server_mut().resume(),
            _ => self.site.isolate(false),
        }
        self.site.find_primary();
    }

    fn push_junk(&mut self, seed: u64) {
        let queue = self.queues[0].clone();
        let pushed = junk::push(&mut self.site, &queue, &mut fastrand::Rng::with_seed(seed));
        let ids = pushed
            .iter()
            .filter_map(|id| TaskId::from_slice(id))
            .collect();
        self.recorder.record(What::Junk { ids });
        self.junk.extend(pushed);
    }

    /// Sets the limit of the server's memory to less than what it uses.
    fn fill_memory(&mut self) {
        self.tell(redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1mb"]));
    }

    fn tell(&mut self, command: &redis::Cmd) {
        let _: Option<redis::Value> = self.site.ask(command);
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
