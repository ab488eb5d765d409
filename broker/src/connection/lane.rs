//! The way of a broker's calls of one sort: over one connection, or over one to each primary.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, RedisResult, Value};
use tokio::time::Instant;

use super::link::Link;
use super::on_the_heap;
use super::routed::{Errand, Routed};
use super::server::Server;
use super::subscription::Subscription;
use super::topology::Topology;
use crate::error::{Error, Result};
use crate::functions::Call;

/// How long the answer of a call that blocks may take beyond its time.
const LATE: Duration = Duration::from_secs(3);

/// Calls to a broker: they come back after it was away, and go where their keys are.
pub(crate) struct Lane(Way);

enum Way {
    /// To one server, at no further cost.
    One(Link),
    /// To the primary of a slot.
    Routed(Routed),
}

impl Lane {
    /// To one server; one try may take `response`.
    pub(crate) fn to_one(server: Arc<Server>, response: Duration) -> Self {
        Self(Way::One(Link::new(server, response)))
    }

    /// To the primaries of a topology.
    pub(crate) fn to_many(topology: Arc<Topology>, response: Duration) -> Self {
        Self(Way::Routed(Routed::new(topology, response)))
    }

    /// Calls a function, again and again for up to `patience` while the broker is away.
    pub(crate) async fn call(&self, call: &Call, patience: Duration) -> Result<Value> {
        self.send(&call.command, call.verb, patience).await
    }

    /// Sends a command likewise; it must be idempotent.
    pub(crate) async fn send(
        &self,
        command: &Cmd,
        doing: &'static str,
        patience: Duration,
    ) -> Result<Value> {
        match &self.0 {
            Way::One(link) => link.send(command, doing, patience).await,
            Way::Routed(routed) => {
                on_the_heap(routed.send(Errand {
                    parcel: command.into(),
                    doing,
                    deadline: Instant::now() + patience,
                    once: false,
                }))
                .await
            }
        }
    }

    /// Sends a command that would have another effect if it ran twice: again only where it certainly did not run.
    pub(crate) async fn send_once(&self, command: &Cmd, doing: &'static str) -> Result<Value> {
        match &self.0 {
            Way::One(link) => link.send_once(command, doing).await,
            Way::Routed(routed) => {
                on_the_heap(routed.send(Errand {
                    parcel: command.into(),
                    doing,
                    deadline: Instant::now() + routed.response(),
                    once: true,
                }))
                .await
            }
        }
    }

    /// Opens a subscription; what is published arrives until the connection ends.
    pub(crate) async fn subscribe(&self, channels: &[String]) -> Result<Subscription> {
        match &self.0 {
            Way::One(link) => link.subscribe(channels).await,
            Way::Routed(routed) => on_the_heap(routed.subscribe(channels)).await,
        }
    }

    /// Loads the library where it is missing.
    pub(crate) async fn load(&self) -> RedisResult<()> {
        match &self.0 {
            Way::One(link) => link.load().await,
            Way::Routed(routed) => routed.load().await,
        }
    }

    /// The error of a call that was not sent in time.
    pub(crate) fn late(&self, doing: &'static str) -> Error {
        super::retry::explain(super::server::late("no answer in time"), self.at(), doing)
    }

    /// The address, as it may be shown: of the server, or of those that the URL names.
    pub(crate) fn at(&self) -> &Arc<str> {
        match &self.0 {
            Way::One(link) => link.at(),
            Way::Routed(routed) => routed.topology().at(),
        }
    }

    /// Whether the server is this user's own.
    pub(crate) fn is_local(&self) -> bool {
        matches!(&self.0, Way::One(link) if link.is_local())
    }

    /// Whether the primaries share the slots.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(&self.0, Way::Routed(routed) if routed.topology().is_cluster())
    }

    /// The same way over connections of its own.
    pub(crate) fn sibling(&self, response: Duration) -> Self {
        Self(match &self.0 {
            Way::One(link) => Way::One(link.sibling(response)),
            Way::Routed(routed) => Way::Routed(routed.sibling(response)),
        })
    }

    /// The same for calls that block there up to `block`.
    pub(crate) fn waiting(&self, block: Duration) -> Self {
        Self(match &self.0 {
            Way::One(link) => Way::One(link.sibling(block + LATE)),
            Way::Routed(routed) => Way::Routed(routed.waiting(block, LATE)),
        })
    }
}
