//! Pools on a fleet: real worker processes, and what is left when they or their producer are killed.

mod bulk;
mod calls;
mod deaths;
mod ends;
mod local;
mod workers;

use std::time::Duration;

use pmq_broker::Pool;
use pmq_broker::typed::Task;
use pmq_tests::eventually_async;
use pmq_tests::program::Running;

use crate::fleet::{Fleet, SOON};
use crate::roles::{SLOTS, as_test};

pub(crate) const SQUARE: Task<i64, i64> = Task::new("square");
pub(crate) const ADD: Task<(i64, i64), i64> = Task::new("add");
/// Fails for what is odd, panics for what is negative.
pub(crate) const HALF: Task<i64, i64> = Task::new("half");
/// Writes its argument to the record.
pub(crate) const NOTE: Task<u64, u64> = Task::new("note");
/// The same, and then waits until the file `release` is there.
pub(crate) const HOLD: Task<u64, u64> = Task::new("hold");
/// Writes its argument to the record and kills its worker, from 1000 on.
pub(crate) const DIE: Task<u64, u64> = Task::new("die");
/// Writes its argument to the record, and takes longer than a batch may for each tenth.
pub(crate) const UNEVEN: Task<u64, u64> = Task::new("uneven");
/// Writes its argument to the record, and answers a text of so many bytes.
pub(crate) const BULKY: Task<(u64, usize), String> = Task::new("bulky");
/// Writes `setup`, the process and its argument to the record; fails for the argument `fail`, and kills its process for
/// `die`.
pub(crate) const SETUP: Task<String, ()> = Task::new("setup");

/// The lease of a killed pool, and what it takes to notice its end.
pub(crate) const AFTER_THE_LEASE: Duration = Duration::from_secs(40);

impl Fleet {
    /// Starts a worker process with the handlers above, under a lease of 1 s, and waits until the fleet knows it.
    pub(crate) async fn pool_worker(&self, slots: usize) -> Running {
        let program = self.stand_in().env(SLOTS, slots.to_string());
        let worker = program.spawn(as_test("pool::workers::worker"));
        let pid = format!("\"pid\":{},", worker.pid());
        eventually_async("the worker is known", SOON, async || {
            let known = self.queue.broker().fleet().await.ok()?;
            known.iter().any(|about| about.contains(&pid)).then_some(())
        })
        .await;
        worker
    }

    /// A pool of so many processes on this fleet's queue.
    pub(crate) async fn pool(&self, processes: usize) -> Pool {
        let builder = Pool::builder(self.queue.broker()).queue(self.queue.name().clone());
        builder.processes(processes).open().await.unwrap()
    }
}
