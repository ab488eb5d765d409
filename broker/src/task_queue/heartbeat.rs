//! heartbeat: a lease renewed, and what is to be stopped.

use std::time::Duration;

use bytes::Bytes;

use super::{Shard, Signal};
use crate::error::{Error, Result};
use crate::ids::{Incarnation, TaskId};
use crate::reply::{self, odd};

/// What a worker or client says.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// Who.
    pub who: Incarnation,
    /// For how long its lease is renewed.
    pub lease: Duration,
    /// Where it holds nothing: the number of its last claim that brought tasks; its lease then may end.
    pub idle: Option<u32>,
    /// The orders of the last answer, which it has carried out.
    pub carried_out: Bytes,
}

/// What the broker answered.
#[derive(Clone, Debug)]
pub struct Beat {
    /// What to stop.
    pub orders: Vec<Order>,
    /// The same as it came, for the next heartbeat.
    pub raw: Bytes,
    /// Whether some worker's lease has ended, so that its tasks can be reclaimed.
    pub lease_ended: bool,
    /// Names what was written to this server before. After a failover or a restart, which may have lost the last writes, it
    /// is another; empty for a client.
    pub history: Bytes,
    /// The last claim that brought tasks, as far as the broker knows.
    pub granted: Grant,
}

/// A claim that brought tasks: its number, and the token of its runs; zeros before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Its number.
    pub number: u32,
    /// The token of its runs.
    pub token: u64,
}

/// An order to stop a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The task.
    pub id: TaskId,
    /// With this signal.
    pub signal: Signal,
}

impl Shard {
    /// Renews a lease, once: the caller beats again soon. [`Error::LeaseLost`] says that it is too late.
    pub async fn heartbeat(&self, beat: &Heartbeat) -> Result<Beat> {
        let call = self
            .call("heartbeat")
            .arg(beat.who.as_bytes().as_slice())
            .arg(beat.lease.as_millis() as u64)
            .arg(beat.idle.map_or_else(String::new, |n| n.to_string()))
            .arg(beat.carried_out.as_ref());
        let patience = (beat.lease / 5).min(Duration::from_secs(3));
        let mut answer = reply::tagged(
            self.broker.heartbeat().call(&call, patience).await?,
            "heartbeat",
        )?;
        if answer.tag != "ok" {
            return Err(Error::LeaseLost {
                queue: self.queue.clone(),
            });
        }
        answer.number()?;
        let raw = answer.bytes()?;
        let orders = raw.chunks_exact(17).filter_map(|o| {
            Some(Order {
                id: TaskId::from_slice(&o[..16])?,
                signal: Signal::from_number(o[16]),
            })
        });
        Ok(Beat {
            orders: orders.collect(),
            lease_ended: answer.text()? == "1",
            history: answer.bytes()?,
            granted: Grant {
                number: u32::try_from(answer.number()?).map_err(|_| odd("heartbeat"))?,
                token: answer.number()?,
            },
            raw,
        })
    }
}
