//! What a process is to the objects of one broker: the members that it makes, and a thread that looks after them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::Object;
use super::inbox::{Inbox, Mail};
use super::lease::{Granted, Lease, Renewal};
use super::member::{CLIENT, Member};
use super::watchdog::Watchdog;
use crate::connection::link::Link;
use crate::functions::Call;
use crate::ids::Name;
use crate::keys::client_channel;

/// How long the end of a program waits for what it gives back at its end.
const FAREWELL: Duration = Duration::from_secs(1);

/// This process, as the objects of one broker know it.
///
/// Its thread renews leases and hears news, so that user code that blocks its own threads loses nothing. It ends with
/// the process, and the leases soon after.
pub(crate) struct Client {
    id: String,
    made: AtomicU64,
    link: Arc<Link>,
    inbox: Inbox,
    watchdog: OnceLock<Arc<Watchdog>>,
    thread: OnceLock<Office>,
    farewells: Arc<Farewells>,
}

impl Client {
    pub(crate) fn new(namespace: &Name, link: Link) -> Self {
        let id: String = (0..CLIENT).map(|_| fastrand::alphanumeric()).collect();
        let link = Arc::new(link);
        Self {
            inbox: Inbox::new(link.clone(), client_channel(namespace, &id)),
            id,
            made: AtomicU64::new(0),
            link,
            watchdog: OnceLock::new(),
            thread: OnceLock::new(),
            farewells: Arc::default(),
        }
    }

    /// A new member.
    pub(crate) fn member(&self) -> Member {
        Member::new(&self.id, self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// Mail for a member, from now on. Returns when the process is sure to hear it, or can't hear anything now.
    pub(crate) async fn mail(&self, member: Member) -> Mail {
        self.inbox.open(self.runtime(), member).await
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
    pub(super) fn farewell_over(&self, link: Arc<Link>, call: Call) {
        let farewells = self.farewells.clone();
        farewells.add();
        self.runtime().spawn(async move {
            if let Err(error) = link.call(&call, FAREWELL * 5).await {
                tracing::debug!(target: "pmq", %error, "could not give something back; its lease will end");
            }
            farewells.done();
        });
    }

    /// The thread's runtime; it starts with the first use.
    pub(crate) fn runtime(&self) -> &Runtime {
        let office = self.thread.get_or_init(Office::open);
        office.0.as_ref().expect("it is taken only by drop")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.farewells.wait(FAREWELL);
    }
}

/// The thread and its runtime.
struct Office(Option<Runtime>);

impl Office {
    fn open() -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("pmq-client")
            .enable_all()
            .build();
        Self(Some(runtime.expect("the system has a thread left")))
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
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
