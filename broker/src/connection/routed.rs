//! Calls that go to whichever server is the primary of their slot, and follow the slot where it goes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::time::{Instant, sleep, timeout_at};

use super::address::Endpoint;
use super::lane::Answer;
use super::link::{LOADS, Link};
use super::parcel::Parcel;
use super::refusal::Refusal;
use super::retry::{Class, class, did_not_run, explain, pause};
use super::route;
use super::server::{Server, late};
use super::subscription::Subscription;
use super::topology::Topology;
use crate::error::{Error, Result};

/// So many redirections are followed at once; then the nodes may disagree, and need a moment.
const HOPS: u32 = 5;
/// After so long without an answer a call has it looked up whether its primary still is one.
const DOUBT: Duration = Duration::from_secs(1);

/// One link to each primary, opened when it is first needed.
pub(super) struct Routed {
    topology: Arc<Topology>,
    response: Duration,
    doubt: Duration,
    links: Mutex<HashMap<Arc<str>, Arc<Link>>>,
}

/// A call on its way.
pub(super) struct Errand<'a> {
    pub(super) parcel: Parcel<'a>,
    pub(super) doing: &'static str,
    pub(super) deadline: Instant,
    /// Whether it may run once only: it is sent again where it certainly did not run.
    pub(super) once: bool,
}

/// How far an errand is.
struct Journey {
    slot: Option<u16>,
    /// The server that it was sent to by another one, and whether that is only about to get the slot.
    ahead: Option<(Arc<Server>, bool)>,
    tries: u32,
    hops: u32,
    loads: u32,
    /// Why the last try failed: what a look for the primary that takes too long would hide.
    failed: Option<RedisError>,
}

impl Routed {
    pub(super) fn new(topology: Arc<Topology>, response: Duration) -> Self {
        Self {
            topology,
            response,
            doubt: DOUBT,
            links: Mutex::default(),
        }
    }

    /// The same over connections of its own.
    pub(super) fn sibling(&self, response: Duration) -> Self {
        Self::new(self.topology.clone(), response)
    }

    /// The same for calls that may block for `block`, over connections of its own.
    pub(super) fn waiting(&self, block: Duration, answer: Duration) -> Self {
        Self {
            doubt: block + DOUBT,
            ..self.sibling(block + answer)
        }
    }

    pub(super) fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    pub(super) fn response(&self) -> Duration {
        self.response
    }

    /// Sends a call to the primary of its slot, again and again until its deadline.
    pub(super) async fn send(&self, errand: Errand<'_>) -> Result<Value> {
        let mut journey = Journey {
            slot: route::slot_of(errand.parcel.command),
            ahead: None,
            tries: 0,
            hops: 0,
            loads: 0,
            failed: None,
        };
        loop {
            let looks = self.topology.looks();
            let (at, error) = match self.next_stop(&mut journey, errand.deadline).await {
                Err(error) => (self.topology.at().clone(), error),
                Ok((link, asking)) => match self.visit(&link, asking, &errand).await {
                    Ok(value) => return Ok(value),
                    Err(error) => {
                        if self.goes_on(&mut journey, &link, &error).await {
                            continue;
                        }
                        (link.at().clone(), error)
                    }
                },
            };
            let again = matches!(class(&error), Class::Again | Class::Reconnect)
                && (!errand.once || did_not_run(&error))
                && Instant::now() < errand.deadline;
            if !again {
                self.doubt_the_map(&error, looks);
                return Err(explain(error, &at, errand.doing));
            }
            tracing::debug!(target: "pmq", doing = errand.doing, %at, %error, "trying again");
            let rested = self.rest(&mut journey, error, (looks, errand.deadline));
            rested
                .await
                .map_err(|refused| explain(refused, &at, errand.doing))?;
        }
    }

    /// The link for the next try.
    async fn next_stop(
        &self,
        journey: &mut Journey,
        deadline: Instant,
    ) -> RedisResult<(Arc<Link>, bool)> {
        if let Some((server, asking)) = journey.ahead.take() {
            return Ok((self.link(&server), asking));
        }
        let found = timeout_at(deadline, self.topology.primary(journey.slot)).await;
        let nobody = || late("no primary found in time");
        let mut failed = || journey.failed.take().unwrap_or_else(nobody);
        let server = found.unwrap_or_else(|_| Err(failed()))?;
        Ok((self.link(&server), false))
    }

    /// One try. One that takes long has it looked up meanwhile whether the server is still the slot's.
    async fn visit(&self, link: &Link, asking: bool, errand: &Errand<'_>) -> RedisResult<Value> {
        let parcel = Parcel {
            asking,
            ..errand.parcel
        };
        tokio::select! {
            biased;
            answer = link.try_once(parcel, errand.deadline) => answer,
            () = self.topology.keep_looking(self.doubt) => Err(late("no answer in time")),
        }
    }

    /// Whether the next try can be made at once: elsewhere, or with the library loaded.
    async fn goes_on(&self, journey: &mut Journey, link: &Link, error: &RedisError) -> bool {
        if class(error) == Class::NoFunction && journey.loads < LOADS {
            journey.loads += 1;
            return match link.load().await {
                Ok(()) => true,
                Err(error) => {
                    tracing::debug!(target: "pmq", at = %link.at(), %error, "could not load the library");
                    false
                }
            };
        }
        let Some((address, slot)) = error.redirect_node() else {
            return false;
        };
        journey.hops += 1;
        let told = link.server().endpoint();
        let endpoint = told.and_then(|told| Endpoint::from_node(address, told));
        let Some(Ok(server)) = endpoint.map(|endpoint| self.topology.server(&endpoint)) else {
            return false;
        };
        let moved = error.kind() == ErrorKind::Server(ServerErrorKind::Moved);
        if moved {
            self.topology.moved(slot, &server);
            self.look_soon(self.topology.looks());
        }
        if journey.hops.is_multiple_of(HOPS) {
            return false;
        }
        journey.ahead = Some((server, !moved));
        true
    }

    /// A pause before the next try, which looks the map up again where the error says that it may be wrong. Fails where
    /// another server is the primary now, to which nothing may be sent.
    async fn rest(
        &self,
        journey: &mut Journey,
        error: RedisError,
        (looks, deadline): (u64, Instant),
    ) -> RedisResult<()> {
        let end = deadline.min(Instant::now() + pause(journey.tries));
        journey.tries += 1;
        if concerns_the_map(&error)
            && let Ok(Err(error)) = timeout_at(deadline, self.topology.look_again(looks)).await
        {
            if Refusal::of(&error).is_some() {
                return Err(error);
            }
            tracing::debug!(target: "pmq", %error, "could not look up the primaries");
        }
        journey.failed = Some(error);
        sleep(end.saturating_duration_since(Instant::now())).await;
        Ok(())
    }

    /// Has the map looked up again for the next call.
    fn doubt_the_map(&self, error: &RedisError, looks: u64) {
        if concerns_the_map(error) {
            self.look_soon(looks);
        }
    }

    fn look_soon(&self, looks: u64) {
        let topology = self.topology.clone();
        tokio::spawn(async move {
            if let Err(error) = topology.look_again(looks).await {
                tracing::debug!(target: "pmq", %error, "could not look up the primaries");
            }
        });
    }

    /// The link to a server.
    pub(super) fn link(&self, server: &Arc<Server>) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(&server.at)
            && Arc::ptr_eq(link.server(), server)
        {
            return link.clone();
        }
        links.retain(|_, link| !link.server().is_retired());
        let link = Arc::new(Link::new(server.clone(), self.response));
        links.insert(server.at.clone(), link.clone());
        link
    }

    /// Opens a subscription at any primary: what is published goes to all.
    pub(super) async fn subscribe(&self, channels: &[String]) -> Result<Subscription> {
        let looks = self.topology.looks();
        let deadline = Instant::now() + self.response;
        let found = timeout_at(deadline, self.topology.primary(None)).await;
        let server = found
            .unwrap_or_else(|_| Err(late("no primary found in time")))
            .map_err(|error| self.explained(error, "subscribe"))?;
        let subscribed = self.link(&server).subscribe(channels).await;
        if let Err(Error::Unreachable { .. }) = &subscribed {
            self.look_soon(looks);
        }
        subscribed
    }

    /// Refuses where one of the primaries that are known can't be trusted.
    pub(super) async fn admit(&self) -> Result<()> {
        let admit = async {
            for (server, _) in self.topology.primaries().await? {
                server.admit().await?;
            }
            Ok(())
        };
        admit
            .await
            .map_err(|error| self.explained(error, "connect"))
    }

    /// Loads the library on every primary.
    pub(super) async fn load(&self) -> RedisResult<()> {
        for (server, _) in self.topology.primaries().await? {
            self.link(&server).load().await?;
        }
        Ok(())
    }

    /// Asks each primary, whichever slots it has.
    pub(super) async fn ask_each(&self, command: &Cmd, doing: &'static str) -> Result<Vec<Answer>> {
        let primaries = self.topology.primaries().await;
        let primaries = primaries.map_err(|error| self.explained(error, doing))?;
        let mut answers = Vec::with_capacity(primaries.len());
        for (server, slots) in primaries {
            let said = self.link(&server).send(command, doing, self.response).await;
            answers.push(Answer {
                at: server.at.clone(),
                slots: self.topology.is_cluster().then_some(slots),
                said,
            });
        }
        Ok(answers)
    }

    fn explained(&self, error: RedisError, doing: &'static str) -> Error {
        explain(error, self.topology.at(), doing)
    }
}

/// Whether an error may come from a map that is out of date.
fn concerns_the_map(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::Moved
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
        ),
        _ => class(error) == Class::Reconnect,
    }
}
