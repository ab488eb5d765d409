//! What the words of multiprocessing share: objects in Redis, members that hold or await something of them, leases.
//!
//! An object has a name, or is anonymous and goes with its last holder. Who uses it is a [`Member`] with a lease of its
//! own, so that the crash of a process takes nothing with it. Reading order: [`member`], [`client`], [`office`],
//! [`inbox`], [`lease`], [`watchdog`], [`hold`].

mod client;
mod hold;
mod inbox;
mod lease;
mod member;
mod office;
mod watchdog;

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use crate::broker::{Broker, PATIENCE};
use crate::error::Result;
use crate::functions::Call;
use crate::ids::{Name, TaskId};
use crate::keys::{Kind, ObjectKeys};
use crate::reply::{self, Tagged};

pub(crate) use client::Client;
pub(crate) use hold::{CALLER_LEASE, Caller, Hold, attach};
pub(crate) use inbox::Mail;
pub(crate) use lease::{Granted, Lease, margin};
pub(crate) use member::Member;

/// How long the keys of an anonymous object outlive the last that its holders were heard of.
pub(crate) const ANONYMOUS_TTL: Duration = Duration::from_secs(60);
/// Who waits asks again this often, as news may be lost; it also renews its place in the line.
pub(crate) const ASK_AGAIN: Duration = Duration::from_secs(2);

/// The least time that a call has for its answer, however short its timeout.
const LAST_ANSWER: Duration = Duration::from_millis(300);

/// The lease of who waits, as the functions give it.
pub(crate) const WAITING_LEASE: Duration = Duration::from_secs(5);

/// An object in Redis, as the functions of its kind see it. Clones are the same object.
#[derive(Clone)]
pub(crate) struct Object {
    broker: Broker,
    word: &'static str,
    name: Name,
    keys: Arc<ObjectKeys>,
    /// Time to live (ms) of an anonymous object, or "".
    ttl: String,
}

impl Object {
    /// A new object without a name of its own: it goes when nobody holds it any more.
    pub(crate) fn anonymous(broker: &Broker, kind: Kind) -> Self {
        let name = Name::new(format!("anon.{}", TaskId::new())).expect("it keeps to the grammar");
        Self::attached(broker, kind, &name)
    }

    /// The object of this name, which exists as soon as somebody uses it; an anonymous one by the name that
    /// [`Object::name`] told.
    pub(crate) fn attached(broker: &Broker, kind: Kind, name: &Name) -> Self {
        let anonymous = name.as_str().starts_with("anon.");
        let ttl = if anonymous {
            ANONYMOUS_TTL.as_millis().to_string()
        } else {
            String::new()
        };
        Self::new(broker, kind, name, ttl)
    }

    fn new(broker: &Broker, kind: Kind, name: &Name, ttl: String) -> Self {
        Self {
            keys: Arc::new(ObjectKeys::new(broker.namespace(), kind, name)),
            broker: broker.clone(),
            word: kind.word,
            name: name.clone(),
            ttl,
        }
    }

    /// The word for what it is.
    pub(crate) fn word(&self) -> &'static str {
        self.word
    }

    /// What another process attaches it by.
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// Whether it goes with its last holder.
    pub(crate) fn is_anonymous(&self) -> bool {
        !self.ttl.is_empty()
    }

    /// The broker that it is on.
    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// What this process is to the objects of its broker.
    pub(crate) fn client(&self) -> Result<&Client> {
        self.broker.client()
    }

    /// A call of one of the functions that take the time to live first.
    pub(crate) fn call(&self, verb: &'static str) -> Call {
        Call::new(verb, self.keys.fixed()).arg(&self.ttl)
    }

    /// A call of one of the functions that have the first key alone.
    pub(crate) fn call_meta(&self, verb: &'static str) -> Call {
        Call::new(verb, &self.keys.fixed()[..1])
    }

    /// A call of one of the functions that only look.
    pub(crate) fn look(&self, verb: &'static str) -> Call {
        Call::new(verb, self.keys.fixed())
    }

    /// Sends a call; its answer begins with a word.
    pub(crate) async fn send(&self, call: &Call) -> Result<Tagged> {
        reply::tagged(self.send_raw(call).await?, call.verb)
    }

    /// Sends a call that is of no use after `deadline`.
    pub(crate) async fn send_until(&self, call: &Call, deadline: Instant) -> Result<Tagged> {
        let value = self.broker.control().call(call, patience(deadline)).await?;
        reply::tagged(value, call.verb)
    }

    /// Sends a call with an answer of another shape.
    pub(crate) async fn send_raw(&self, call: &Call) -> Result<Value> {
        self.broker.control().call(call, PATIENCE).await
    }

    /// Gives up, in the background, what somebody asked for and does not await any more. Where it was `asking`, its call
    /// may still be on its way: the same connection keeps the order of the two, or that call would undo this one.
    pub(crate) fn give_up(&self, call: Call, asking: bool) {
        match self.client() {
            Ok(client) if asking => client.farewell_over(self.broker.control().clone(), call),
            Ok(client) => client.farewell(call),
            Err(_) => {} // then nothing was asked for
        }
    }

    /// Makes a last call for something that was dropped, in the background.
    pub(crate) fn farewell(&self, call: Call) {
        self.give_up(call, false);
    }
}

/// How long a call waits for a broker that is away which is of no use after `deadline`: also the last one, at the deadline,
/// has the time of an answer.
pub(crate) fn patience(deadline: Instant) -> Duration {
    let left = deadline.saturating_duration_since(Instant::now());
    left.clamp(LAST_ANSWER, PATIENCE)
}
