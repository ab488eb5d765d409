//! The way of a broker's calls of one sort: over one connection, or over one to each primary.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, RedisResult, Value};
use tokio::time::Instant;

use super::assurance::{Assurance, lasts};
use super::cluster::slot;
use super::link::Link;
use super::on_the_heap;
use super::parcel::Parcel;
use super::routed::{Errand, Routed};
use super::server::Server;
use super::subscription::Subscription;
use super::topology::Topology;
use crate::durability::Durability;
use crate::error::{Error, Result};
use crate::functions::Call;

/// How long the answer of a call that blocks may take beyond its time.
const LATE: Duration = Duration::from_secs(3);

/// Calls to a broker: they come back after it was away, and go where their keys are.
pub(crate) struct Lane {
    way: Way,
    /// For calls whose effect shall outlive the primary: they block their connection until a replica has confirmed.
    assured: Option<Box<Assured>>,
}

/// What one of the primaries answered.
pub(crate) struct Answer {
    pub(crate) at: Arc<str>,
    pub(crate) slots: Option<u32>,
    pub(crate) said: Result<Value>,
}

enum Way {
    /// To one server, at no further cost.
    One(Link),
    /// To the primary of a slot.
    Routed(Routed),
}

/// A way of its own for calls that are made sure of.
struct Assured {
    way: Way,
    durability: Durability,
}

impl Lane {
    /// To one server; one try may take `response`.
    pub(crate) fn to_one(server: Arc<Server>, response: Duration) -> Self {
        Way::One(Link::new(server, response)).into()
    }

    /// To the primaries of a topology.
    pub(crate) fn to_many(topology: Arc<Topology>, response: Duration) -> Self {
        Way::Routed(Routed::new(topology, response)).into()
    }

    /// The same way, with calls whose effect lasts made sure of.
    pub(crate) fn assured(self, durability: Durability) -> Self {
        if durability == Durability::Local {
            return self;
        }
        let response = self.way.response();
        let assured = Assured {
            way: self.way.sibling(response),
            durability,
        };
        Self {
            assured: Some(Box::new(assured)),
            ..self
        }
    }

    /// Calls a function, again and again for up to `patience` while the broker is away.
    pub(crate) async fn call(&self, call: &Call, patience: Duration) -> Result<Value> {
        match &self.assured {
            Some(assured) if lasts(call.verb) => on_the_heap(assured.call(call, patience)).await,
            _ => self.send(&call.command, call.verb, patience).await,
        }
    }

    /// Sends a command likewise; it must be idempotent.
    pub(crate) async fn send(
        &self,
        command: &Cmd,
        doing: &'static str,
        patience: Duration,
    ) -> Result<Value> {
        match &self.way {
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
        match &self.way {
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

    /// Whether two keys are on the same server, as far as is known.
    pub(crate) fn is_together(&self, a: &str, b: &str) -> bool {
        match &self.way {
            Way::One(_) => true,
            Way::Routed(routed) => {
                let [a, b] = [a, b].map(|key| slot(key.as_bytes()));
                routed.topology().is_together(a, b)
            }
        }
    }

    /// Opens a subscription; what is published arrives until the connection ends.
    pub(crate) async fn subscribe(&self, channels: &[String]) -> Result<Subscription> {
        match &self.way {
            Way::One(link) => link.subscribe(channels).await,
            Way::Routed(routed) => on_the_heap(routed.subscribe(channels)).await,
        }
    }

    /// Refuses to go on where others could listen to a primary, or use it, though nothing was sent to it yet.
    pub(crate) async fn admit(&self) -> Result<()> {
        match &self.way {
            Way::One(_) => Ok(()),
            Way::Routed(routed) => on_the_heap(routed.admit()).await,
        }
    }

    /// Loads the library where it is missing.
    pub(crate) async fn load(&self) -> RedisResult<()> {
        match &self.way {
            Way::One(link) => link.load().await,
            Way::Routed(routed) => routed.load().await,
        }
    }

    /// Asks each primary; with its address and the number of its slots, where it is one of several.
    pub(crate) async fn ask_each(&self, command: &Cmd, doing: &'static str) -> Result<Vec<Answer>> {
        match &self.way {
            Way::One(link) => {
                let said = link.send(command, doing, link.response()).await;
                let at = link.at().clone();
                Ok(vec![Answer {
                    at,
                    slots: None,
                    said,
                }])
            }
            Way::Routed(routed) => on_the_heap(routed.ask_each(command, doing)).await,
        }
    }

    /// The error of a call that was not sent in time.
    pub(crate) fn late(&self, doing: &'static str) -> Error {
        super::retry::explain(super::server::late("no answer in time"), self.at(), doing)
    }

    /// The address, as it may be shown: of the server, or of those that the URL names.
    pub(crate) fn at(&self) -> &Arc<str> {
        match &self.way {
            Way::One(link) => link.at(),
            Way::Routed(routed) => routed.topology().at(),
        }
    }

    /// Whether the server is this user's own.
    pub(crate) fn is_local(&self) -> bool {
        matches!(&self.way, Way::One(link) if link.is_local())
    }

    /// Whether the primaries share the slots.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(&self.way, Way::Routed(routed) if routed.topology().is_cluster())
    }

    /// The same way over connections of its own.
    pub(crate) fn sibling(&self, response: Duration) -> Self {
        let lane = Self::from(self.way.sibling(response));
        match &self.assured {
            Some(assured) => lane.assured(assured.durability),
            None => lane,
        }
    }

    /// The same for calls that block there up to `block`.
    pub(crate) fn waiting(&self, block: Duration) -> Self {
        let way = match &self.way {
            Way::One(link) => Way::One(link.sibling(block + LATE)),
            Way::Routed(routed) => Way::Routed(routed.waiting(block, LATE)),
        };
        way.into()
    }
}

impl From<Way> for Lane {
    fn from(way: Way) -> Self {
        Self { way, assured: None }
    }
}

impl Way {
    fn sibling(&self, response: Duration) -> Self {
        match self {
            Self::One(link) => Self::One(link.sibling(response)),
            Self::Routed(routed) => Self::Routed(routed.sibling(response)),
        }
    }

    fn response(&self) -> Duration {
        match self {
            Self::One(link) => link.response(),
            Self::Routed(routed) => routed.response(),
        }
    }
}

impl Assured {
    async fn call(&self, call: &Call, patience: Duration) -> Result<Value> {
        let assurance = Assurance::of(&call.command, self.durability);
        let parcel = Parcel {
            assurance: assurance.as_ref(),
            ..Parcel::from(&call.command)
        };
        match &self.way {
            Way::One(link) => link.send(parcel, call.verb, patience).await,
            Way::Routed(routed) => {
                routed
                    .send(Errand {
                        parcel,
                        doing: call.verb,
                        deadline: Instant::now() + patience,
                        once: false,
                    })
                    .await
            }
        }
    }
}
