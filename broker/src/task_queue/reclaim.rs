//! reclaim: take back what workers held whose lease ended.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{DEFAULT_LEASE, Heartbeat, Shard, TaskQueue};
use crate::broker::PATIENCE;
use crate::error::{Error, Result};
use crate::ids::Incarnation;
use crate::reply;

/// What one call of reclaim did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// How many tasks it took back.
    pub tasks: u64,
    /// Whether there is more to do at once.
    pub more: bool,
    /// For how long no lease ends, because the broker was away.
    pub grace: Duration,
}

impl TaskQueue {
    /// Ends the lease of a worker that is known to be dead, so that what it held runs again, or ends, at once. `lease` is
    /// that of the queue's other workers.
    ///
    /// [`Error::LeaseLost`] says that it has never held anything here, or that its lease had ended.
    pub async fn bury(&self, worker: Incarnation, lease: Duration) -> Result<()> {
        let shards = self.shards().await?;
        let buried = join_all(shards.iter().map(|shard| shard.bury(worker, lease))).await;
        // It may have held something on any of them.
        let lost = |buried: &Result<()>| matches!(buried, Err(Error::LeaseLost { .. }));
        if buried.iter().all(lost) {
            return buried.into_iter().collect();
        }
        buried.into_iter().filter(|buried| !lost(buried)).collect()
    }
}

impl Shard {
    async fn bury(&self, worker: Incarnation, lease: Duration) -> Result<()> {
        let last = Heartbeat {
            who: worker,
            lease: Duration::ZERO,
            idle: None,
            carried_out: Bytes::new(),
        };
        self.heartbeat(&last).await?;
        while self.reclaim(lease).await?.more {}
        Ok(())
    }

    /// Does one bounded step of the walk over running tasks; anybody may go on with it.
    ///
    /// It does nothing for one lease after the broker was away.
    pub async fn reclaim(&self, lease: Duration) -> Result<Reclaimed> {
        let call = self.call("reclaim").arg(lease.as_millis() as u64);
        let mut answer = reply::tagged(
            self.broker.control().call(&call, PATIENCE).await?,
            "reclaim",
        )?;
        if answer.tag == "grace" {
            let grace = Duration::from_millis(answer.number()?);
            return Ok(Reclaimed {
                tasks: 0,
                more: false,
                grace,
            });
        }
        let tasks = answer.number()?;
        self.announce(tasks as usize).await;
        Ok(Reclaimed {
            tasks,
            more: answer.text()? == "1",
            grace: Duration::ZERO,
        })
    }

    /// Reclaims all that can be now, and answers for how long no lease ends there. What fails is tried again by whoever is
    /// next.
    pub(super) async fn take_back(&self, lease: Duration) -> Duration {
        loop {
            match self.reclaim(lease).await {
                Ok(step) if step.more => {}
                step => return step.map_or(Duration::ZERO, |step| step.grace),
            }
        }
    }
}

/// How often who waits for tasks looks after their workers.
const EVERY: Duration = Duration::from_secs(5);
/// Who waits turns to it more often than this, unless the broker was away or this process stood still.
const STEADY: Duration = Duration::from_millis(2500);

/// Whoever waits for tasks takes back, every few seconds, what workers held whose lease has ended: there may be no
/// worker left that does, and the wait would have no end.
pub(crate) struct Caretaker {
    /// Those of the tasks that it waits for.
    shards: Vec<Shard>,
    rounds: Rounds,
}

impl Caretaker {
    /// Begins a wait. A short one costs nothing.
    pub(crate) fn new(shards: Vec<Shard>) -> Self {
        Self {
            shards,
            rounds: Rounds::new(Instant::now()),
        }
    }

    /// Reclaims where it is time to. To be called about once a second.
    pub(crate) async fn look_after(&mut self) {
        if self.rounds.is_due(Instant::now()) {
            join_all(self.shards.iter().map(|s| s.take_back(DEFAULT_LEASE))).await;
        }
    }
}

/// When it is time to reclaim. After an outage workers have a while to renew their leases first, as theirs may be
/// shorter than the one by which `reclaim` itself notices an outage.
struct Rounds {
    last: Instant,
    next: Instant,
}

impl Rounds {
    fn new(now: Instant) -> Self {
        Self {
            last: now,
            next: now + EVERY,
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_steady = now - self.last < STEADY;
        let is_due = is_steady && now >= self.next;
        self.last = now;
        if is_due || !is_steady {
            self.next = now + EVERY;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_begin_anew_after_an_outage() {
        let start = Instant::now();
        let mut rounds = Rounds::new(start);
        let mut due = |seconds| rounds.is_due(start + Duration::from_secs(seconds));
        for seconds in [1, 2, 3, 4, 6, 7, 8, 9] {
            assert_eq!(due(seconds), seconds == 6, "{seconds} s");
        }
        // Nothing came through for 11 s.
        for seconds in 20..26 {
            assert_eq!(due(seconds), seconds == 25, "{seconds} s");
        }
    }
}
