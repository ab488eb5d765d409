//! reclaim: take back what workers held whose lease ended.

use std::time::Duration;

use bytes::Bytes;

use super::{Heartbeat, TaskQueue};
use crate::broker::PATIENCE;
use crate::error::Result;
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
    pub async fn bury(&self, worker: Incarnation, lease: Duration) -> Result<()> {
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
        Ok(Reclaimed {
            tasks: answer.number()?,
            more: answer.text()? == "1",
            grace: Duration::ZERO,
        })
    }
}
