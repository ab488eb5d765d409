//! What is done to the server.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use pmq_broker::functions::LIBRARY;
use pmq_broker::keys::ShardKeys;
use pmq_broker::{Due, Task, TaskId, envelope};

use super::conductor::{Conductor, TICK};
use super::fault::{Fault, Kind};
use super::site::USER;
use super::{clock, junk, power};
use crate::history::What;
use crate::role::{HANDLER, name, planned};

/// In seconds.
const CLOCK_JUMP: i64 = 30;

/// How many parts a queue on a Cluster has unless it was told otherwise.
const SHARDS: u64 = 16;
/// Longer than a slot stands half-way.
const HALF_WAY: Duration = Duration::from_secs(2);

impl Conductor {
    pub(super) fn hit_broker(&mut self, fault: &Fault) -> Result<()> {
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
            Kind::MoveSlot => {
                // One waits for its time, so that half-way the hash of tasks is still there.
                self.submit_here(Due::After(HALF_WAY), None);
                self.site.begin_move();
                self.submit_here(Due::Now, self.mutant.and_then(|m| m.declared));
            }
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
            Kind::Evict => {
                self.configure(&["maxmemory-policy", "allkeys-lru"]);
                self.fill_memory();
            }
            Kind::RemoveUser => self.tell(redis::cmd("ACL").arg(&["DELUSER", USER])),
            Kind::ChangePassword => {
                self.tell(redis::cmd("ACL").arg(&["SETUSER", USER, "resetpass", ">another"]));
                self.tell(redis::cmd("CLIENT").arg(&["KILL", "USER", USER]));
            }
            Kind::RevokeRights => self.tell(redis::cmd("ACL").arg(&["SETUSER", USER, "-fcall"])),
            Kind::DropSubscribers => {
                self.tell(redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]));
            }
            Kind::FullDisk => power::fill_disk(&self.site)?,
            Kind::Junk => self.push_junk(fault.at.as_nanos() as u64),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn mend_broker(&mut self, fault: &Fault) -> Result<()> {
        match fault.kind {
            Kind::KillBroker | Kind::LongOutage | Kind::PowerCut => {
                self.site.server_mut().restart();
            }
            Kind::PauseBroker => self.site.server_mut().resume(),
            Kind::FullMemory => self.configure(&["maxmemory", "0"]),
            Kind::Evict => {
                self.configure(&["maxmemory", "0", "maxmemory-policy", "noeviction"]);
            }
            Kind::MoveSlot => self.site.finish_move(),
            Kind::RemoveUser | Kind::ChangePassword | Kind::RevokeRights => self.site.make_user(),
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
        self.site.wait_for_rejoin();
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
        self.configure(&["maxmemory", "1mb"]);
    }

    fn configure(&mut self, settings: &[&str]) {
        self.tell(redis::cmd("CONFIG").arg("SET").arg(settings));
    }

    /// Submits a task to the shard that moves, and declares the first keys only where the library asks for no others. The
    /// true one asks for all, so that half-way Redis refuses the call before it begins.
    fn submit_here(&mut self, due: Due, declared: Option<usize>) {
        let mut task = Task::handler(HANDLER, "{}");
        task.retry.attempts = 1;
        task.due = due;
        let Ok(envelope) = envelope::encode(&task) else {
            return;
        };
        let queue = self.queues[0].clone();
        self.recorder.record(What::Submit {
            op: 0,
            queue: queue.clone(),
            tasks: vec![planned(&task)],
        });
        let keys = ShardKeys::new(&name("pmq"), &name(&queue));
        let keys = &keys.fixed()[..declared.unwrap_or(keys.fixed().len())];
        let mut call = redis::cmd("FCALL");
        call.arg(format!("{LIBRARY}_submit"))
            .arg(keys.len())
            .arg(keys);
        call.arg("1")
            .arg("0")
            .arg(SHARDS)
            .arg(task.id.as_bytes())
            .arg(&envelope[..]);
        if let Due::After(delay) = due {
            call.arg(format!("+{}", delay.as_millis()));
        }
        self.tell(&call);
    }

    fn tell(&mut self, command: &redis::Cmd) {
        let _: Option<redis::Value> = self.site.ask(command);
    }
}
