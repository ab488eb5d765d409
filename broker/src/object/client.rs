//! What a process is to the objects of one broker: the members that it makes, and a thread that looks after them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Object;
use super::hold::CALLER_LEASE;
use super::inbox::{Inbox, Mail};
use super::lease::{Granted, Lease, Renewal};
use super::member::{CLIENT, Member};
use super::office::Office;
use super::watchdog::Watchdog;
use crate::connection::lane::Lane;
use crate::error::Result;
use crate::functions::Call;
use crate::ids::Name;
use crate::keys::client_channel;

/// How long the end of a program waits for what it gives back at its end.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long it is tried to give something back: a broker that stood still may do what it was asked before, and knows
/// whom it gave what for this long.
const GIVE_BACK: Duration = CALLER_LEASE;

/// This process, as the objects of one broker know it.
///
/// Its thread renews leases and hears news, so that user code that blocks its own threads loses nothing. It ends with
/// the process, and the leases soon after.
pub(crate) struct Client {
    id: String,
    made: AtomicU64,
    link: Arc<Lane>,
    inbox: Inbox,
    watchdog: OnceLock<Arc<Watchdog>>,
    office: Office,
    farewells: Arc<Farewells>,
}

impl Client {
    /// Starts its thread; [`Error::NoThread`](crate::Error::NoThread) where the system has none left.
    pub(crate) fn start(namespace: &Name, link: Lane) -> Result<Self> {
        let office = Office::open()?;
        let id: String = (0..CLIENT).map(|_| fastrand::alphanumeric()).collect();
        let link = Arc::new(link);
        Ok(Self {
            inbox: Inbox::new(link.clone(), client_channel(namespace, &id)),
            id,
            made: AtomicU64::new(0),
            link,
            watchdog: OnceLock::new(),
            office,
            farewells: Arc::default(),
        })
    }

    /// A new member.
    pub(crate) fn member(&self) -> Member {
        Member::new(&self.id, self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// Mail for a member, from now on. Returns when the process is sure to hear it, or can't hear anything now, or it is
    /// `deadline`.
    pub(crate) async fn mail(&self, member: Member, deadline: Instant) -> Mail {
        self.inbox.open(self.runtime(), member, deadline).await
    }

    /// Keeps a lease that was granted by a call sent at `sent`.
    pub(crate) fn keep(&self, object: &Object, member: Member, granted: Granted) -> Lease {
        let renewal = Renewal {
            link: self.link.clone(),
            keys: object.keys.clone(),
            ttl: object.ttl.clone(),
            member,
        };
        let start = || Watchdog::start(self.runtime());
        Lease::start(self.watchdog.get_or_init(start), renewal, granted)
    }

    /// Makes a last call for something that was dropped. A program that ends waits up to 1 s for it.
    pub(crate) fn farewell(&self, call: Call) {
        self.farewell_over(self.link.clone(), call);
    }

    /// Makes it over another connection than its own.
    pub(super) fn farewell_over(&self, link: Arc<Lane>, call: Call) {
        let farewells = self.farewells.clone();
        farewells.add();
        self.runtime().spawn(async move {
            if let Err(error) = link.call(&call, GIVE_BACK).await {
                tracing::debug!(target: "pmq", %error, "could not give something back; its lease will end");
            }
            farewells.done();
        });
    }

    /// The connection of its thread.
    pub(crate) fn link(&self) -> Arc<Lane> {
        self.link.clone()
    }

    /// The thread's runtime.
    pub(crate) fn runtime(&self) -> &Handle {
        self.office.runtime()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.farewells.wait(FAREWELL);
    }
}

/// Last calls under way.
#[derive(Default)]
struct Farewells {
    count: Mutex<usize>,
    none: Condvar,
}

impl Farewells {
    fn add(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    fn done(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.none.notify_all();
    }

    fn wait(&self, longest: Duration) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            self.none
                .wait_timeout_while(count, longest, |count| *count > 0),
        );
    }
}
