//! The lease under which the jobs are this run's: a process that stood still for too long has lost them.
use std::time::Duration;

use bytes::Bytes;
use pmq_broker::task_queue::{DEFAULT_LEASE, Heartbeat};
use pmq_broker::{Error, Incarnation, TaskQueue};
use tokio::task::JoinHandle;

/// How often it looks. The owner itself renews the lease; this only notices its end.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Watches the lease of an owner in the background.
#[derive(Debug)]
pub struct Lease(JoinHandle<Error>);

impl Lease {
    /// Starts to watch.
    #[must_use]
    pub fn watch(queue: TaskQueue, owner: Incarnation) -> Self {
        Self(tokio::spawn(async move {
            let beat = Heartbeat {
                who: owner,
                lease: DEFAULT_LEASE,
                idle: None,
                carried_out: Bytes::new(),
            };
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                if let Err(error @ Error::LeaseLost { .. }) = queue.renew(&beat).await {
                    return error;
                }
            }
        }))
    }

    /// Waits until the lease is lost. Not to be called again after that.
    pub async fn lost(&mut self) -> anyhow::Error {
        match (&mut self.0).await {
            Ok(error) => anyhow::Error::from(error).context(
                "this process stood still for longer than its lease, so its jobs were dropped; \
                 run it again with --joblog FILE --resume",
            ),
            Err(panic) => panic.into(),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.abort();
    }
}
