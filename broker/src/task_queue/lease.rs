//! The lease of a client: renewed for as long as its holder lives in this process.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::{Heartbeat, Shard};
use crate::error::{Error, Result};
use crate::ids::Incarnation;

/// Renews a lease on some shards in the background until it is dropped.
pub(super) struct Renewal(JoinHandle<()>);

impl Renewal {
    pub(super) fn start(shards: Vec<Shard>, who: Incarnation, lease: Duration) -> Self {
        Self(tokio::spawn(async move {
            let beat = Heartbeat {
                who,
                lease,
                idle: None,
                carried_out: Bytes::new(),
            };
            loop {
                tokio::time::sleep(lease / 5).await;
                match renew(&shards, &beat).await {
                    Err(Error::LeaseLost { .. }) => return,
                    Err(error) => {
                        tracing::debug!(target: "pmq", %error, "could not renew the lease");
                    }
                    Ok(()) => {}
                }
            }
        }))
    }
}

/// Renews a lease on all these shards. That it is lost on one counts for more than that another does not answer.
pub(super) async fn renew(shards: &[Shard], beat: &Heartbeat) -> Result<()> {
    let mut renewed = Ok(());
    for beaten in join_all(shards.iter().map(|shard| shard.heartbeat(beat))).await {
        match beaten {
            Err(lost @ Error::LeaseLost { .. }) => return Err(lost),
            Err(error) => renewed = Err(error),
            Ok(_) => {}
        }
    }
    renewed
}

impl Renewal {
    /// Whether the lease is lost.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    /// Until it is too late to renew.
    pub(super) async fn lost(&mut self) {
        // It ends for no other reason, unless its runtime does.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}
