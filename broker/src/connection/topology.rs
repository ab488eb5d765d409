//! Which server is the primary of which slots, for all lanes of a broker; looked up again when it seems to be wrong.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind};
use tokio::time::{Instant, sleep, sleep_until};

use super::address::{Access, Endpoint};
use super::cluster::ClusterGuide;
use super::sentinel::SentinelGuide;
use super::server::Server;

/// The least time between two look-ups of a process; as much again is jitter, so that a fleet does not ask as one.
const GAP: Duration = Duration::from_millis(200);
/// Between two look-ups for a call that gets no answer.
const LOOK_AGAIN: Duration = Duration::from_millis(400);

/// Who is asked where the primaries are.
pub(crate) enum Guide {
    /// Nodes of a Cluster.
    Cluster(ClusterGuide),
    /// Sentinels: one primary has all slots.
    Sentinel(SentinelGuide),
}

impl Guide {
    async fn look(&self, known: &Map) -> RedisResult<Directions> {
        match self {
            Self::Cluster(guide) => guide.look(known).await,
            Self::Sentinel(guide) => guide.look(known).await,
        }
    }

    /// How the primaries are reached.
    fn access(&self) -> &Access {
        match self {
            Self::Cluster(guide) => guide.access(),
            Self::Sentinel(guide) => guide.access(),
        }
    }
}

/// What a guide says.
pub(crate) struct Directions {
    /// First slot, last slot, primary; in the order of slots, without overlaps.
    pub(crate) ranges: Vec<(u16, u16, Endpoint)>,
    /// Whom to ask the next time.
    pub(crate) nodes: Vec<Endpoint>,
    /// More is newer.
    pub(crate) epoch: u64,
}

/// The primaries of a broker that has several, or one that others may replace.
pub(crate) struct Topology {
    guide: Guide,
    /// The URL's hosts, as they may be shown.
    at: Arc<str>,
    map: Mutex<Arc<Map>>,
    /// When it was last looked up; held meanwhile.
    looking: tokio::sync::Mutex<Option<Instant>>,
}

/// The primaries at some time.
#[derive(Default)]
pub(crate) struct Map {
    ranges: Vec<Range>,
    pub(crate) nodes: Vec<Endpoint>,
    pub(crate) epoch: u64,
    /// Counts the look-ups.
    looks: u64,
}

#[derive(Clone)]
struct Range {
    first: u16,
    last: u16,
    server: Arc<Server>,
}

impl Map {
    /// The primary of a slot.
    fn owner(&self, slot: u16) -> Option<&Arc<Server>> {
        let index = self.ranges.partition_point(|range| range.last < slot);
        let range = self.ranges.get(index)?;
        (range.first <= slot).then_some(&range.server)
    }

    /// The primaries, each once, with the number of its slots.
    fn primaries(&self) -> Vec<(Arc<Server>, u32)> {
        let mut primaries: Vec<(Arc<Server>, u32)> = Vec::new();
        for Range {
            first,
            last,
            server,
        } in &self.ranges
        {
            let slots = u32::from(last - first) + 1;
            match primaries
                .iter_mut()
                .find(|(known, _)| Arc::ptr_eq(known, server))
            {
                Some((_, sum)) => *sum += slots,
                None => primaries.push((server.clone(), slots)),
            }
        }
        primaries
    }

    /// The server with this address, if it is a primary.
    fn at(&self, endpoint: &Endpoint) -> Option<&Arc<Server>> {
        let here = |server: &&Arc<Server>| server.endpoint() == Some(endpoint);
        self.ranges.iter().map(|range| &range.server).find(here)
    }

    /// Gives one slot to another server.
    fn give(&mut self, slot: u16, server: &Arc<Server>) {
        let mut ranges = Vec::with_capacity(self.ranges.len() + 2);
        let mut part = |first: u16, last: u16, server: &Arc<Server>| {
            let server = server.clone();
            ranges.push(Range {
                first,
                last,
                server,
            });
        };
        for range in &self.ranges {
            if !(range.first..=range.last).contains(&slot) {
                part(range.first, range.last, &range.server);
                continue;
            }
            if range.first < slot {
                part(range.first, slot - 1, &range.server);
            }
            if slot < range.last {
                part(slot + 1, range.last, &range.server);
            }
        }
        part(slot, slot, server);
        ranges.sort_by_key(|range| range.first);
        self.ranges = ranges;
    }
}

impl Topology {
    pub(crate) fn new(guide: Guide, at: String) -> Self {
        Self {
            guide,
            at: at.into(),
            map: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
        }
    }

    /// The URL's hosts, as they may be shown.
    pub(crate) fn at(&self) -> &Arc<str> {
        &self.at
    }

    /// Whether the primaries share the slots.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.guide, Guide::Cluster(_))
    }

    /// The primary of a slot, or any one; looked up where it is not known.
    pub(crate) async fn primary(&self, slot: Option<u16>) -> RedisResult<Arc<Server>> {
        let map = self.map();
        if let Some(server) = choose(&map, slot) {
            return Ok(server);
        }
        self.look_again(map.looks).await?;
        choose(&self.map(), slot).ok_or_else(nobody)
    }

    /// All primaries, with the number of slots of each; looked up where none is known.
    pub(crate) async fn primaries(&self) -> RedisResult<Vec<(Arc<Server>, u32)>> {
        self.primary(None).await?;
        Ok(self.map().primaries())
    }

    /// How often it was looked up.
    pub(crate) fn looks(&self) -> u64 {
        self.map().looks
    }

    /// The server at this address, where a primary said that it serves the slot, or is about to.
    pub(crate) fn server(&self, endpoint: &Endpoint) -> RedisResult<Arc<Server>> {
        self.known_or_new(&self.map(), endpoint)
    }

    /// Remembers where a slot is now.
    pub(crate) fn moved(&self, slot: u16, server: &Arc<Server>) {
        let mut map = self.lock();
        let mut changed = Map {
            ranges: map.ranges.clone(),
            nodes: map.nodes.clone(),
            ..**map
        };
        changed.give(slot, server);
        *map = Arc::new(changed);
    }

    /// Looks up where the primaries are, unless somebody has done so since the `seen`th time.
    pub(crate) async fn look_again(&self, seen: u64) -> RedisResult<()> {
        let mut looked = self.looking.lock().await;
        let map = self.map();
        if map.looks != seen {
            return Ok(());
        }
        if let Some(at) = *looked {
            sleep_until(at + GAP + GAP.mul_f64(fastrand::f64())).await;
        }
        let found = self.guide.look(&map).await;
        *looked = Some(Instant::now());
        self.learn(found?)
    }

    /// Looks again and again, for a call that has had no answer since `doubt`: once another server has the slot, the one
    /// that does not answer is retired, which ends the call's wait.
    pub(crate) async fn keep_looking(&self, doubt: Duration) {
        sleep(doubt).await;
        loop {
            if let Err(error) = self.look_again(self.looks()).await {
                tracing::debug!(target: "pmq", %error, "could not look up the primaries");
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Takes over what a guide said, and retires who is no primary any more.
    fn learn(&self, found: Directions) -> RedisResult<()> {
        let before = self.map();
        let mut map = Map {
            ranges: Vec::with_capacity(found.ranges.len()),
            nodes: found.nodes,
            epoch: before.epoch.max(found.epoch),
            looks: before.looks + 1,
        };
        for (first, last, endpoint) in &found.ranges {
            let server = match map.at(endpoint) {
                Some(server) => server.clone(),
                None => self.known_or_new(&before, endpoint)?,
            };
            map.ranges.push(Range {
                first: *first,
                last: *last,
                server,
            });
        }
        let map = Arc::new(map);
        let before = std::mem::replace(&mut *self.lock(), map.clone());
        for (server, _) in before.primaries() {
            if !map
                .ranges
                .iter()
                .any(|range| Arc::ptr_eq(&range.server, &server))
            {
                tracing::info!(target: "pmq", at = %server.at, "no primary any more");
                server.retire();
            }
        }
        Ok(())
    }

    fn known_or_new(&self, map: &Map, endpoint: &Endpoint) -> RedisResult<Arc<Server>> {
        if let Some(server) = map.at(endpoint).filter(|server| !server.is_retired()) {
            return Ok(server.clone());
        }
        let server = Server::primary(self.guide.access(), endpoint.clone())?;
        Ok(Arc::new(server))
    }

    /// Whether what a sentinel says is newer than what is known.
    pub(super) fn is_news(&self, primary: &Endpoint, epoch: u64) -> bool {
        let map = self.map();
        map.epoch < epoch || (map.epoch == epoch && map.at(primary).is_none())
    }

    /// Whether one primary has both slots, as far as is known.
    pub(super) fn is_together(&self, a: u16, b: u16) -> bool {
        let map = self.map();
        let owners = map.owner(a).zip(map.owner(b));
        owners.is_some_and(|(a, b)| Arc::ptr_eq(a, b))
    }

    pub(super) fn map(&self) -> Arc<Map> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Map>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The primary of the slot; without one, any.
fn choose(map: &Map, slot: Option<u16>) -> Option<Arc<Server>> {
    match slot {
        Some(slot) => map.owner(slot).cloned(),
        None => fastrand::choice(&map.ranges).map(|range| range.server.clone()),
    }
}

fn nobody() -> RedisError {
    RedisError::from((
        ErrorKind::Server(ServerErrorKind::ClusterDown),
        "no primary serves the slot",
    ))
}
