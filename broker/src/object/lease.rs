//! The lease of a member that holds something: renewed by a thread of its own, and never lost silently.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Member;
use super::watchdog::{Place, Watchdog};
use crate::connection::lane::Lane;
use crate::functions::Call;
use crate::keys::ObjectKeys;
use crate::reply;

/// The most by which a holder ends its lease before the broker does.
const MARGIN: Duration = Duration::from_secs(2);

/// A lease that some call granted.
#[derive(Clone, Copy)]
pub(crate) struct Granted {
    /// Its length, which renewals give it.
    pub(crate) lease: Duration,
    /// How long it is at first; who waited in line has less, until the holder says that it knows.
    pub(crate) first: Duration,
    /// Before the call that granted it was sent.
    pub(crate) sent: Instant,
}

/// By how much a holder ends a lease of this length before the broker does: time to stop what it guards.
pub(crate) fn margin(lease: Duration) -> Duration {
    MARGIN.min(lease / 5)
}

/// Until when the holder may rely on a lease that a call sent then has given.
fn safe(sent: Instant, lease: Duration) -> Instant {
    sent + lease - margin(lease)
}

/// How a lease is renewed.
pub(super) struct Renewal {
    pub(super) link: Arc<Lane>,
    pub(super) keys: Arc<ObjectKeys>,
    pub(super) ttl: String,
    pub(super) member: Member,
}

impl Renewal {
    fn call(&self, lease: Duration) -> Call {
        Call::new("renew", self.keys.fixed())
            .arg(&self.ttl)
            .arg(lease.as_millis() as u64)
            .arg(self.member.as_bytes())
    }
}

/// What a holder knows of its lease.
struct Hold {
    lost: CancellationToken,
    deadline: Mutex<Instant>,
}

impl Hold {
    fn deadline(&self) -> Instant {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend(&self, deadline: Instant) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }
}

/// A lease that is renewed until it is dropped.
pub(crate) struct Lease {
    hold: Arc<Hold>,
    watchdog: Arc<Watchdog>,
    place: Place,
}

impl Lease {
    pub(super) fn start(watchdog: &Arc<Watchdog>, renewal: Renewal, granted: Granted) -> Self {
        let now = Instant::now();
        let deadline = safe(granted.sent, granted.first);
        let hold = Arc::new(Hold {
            lost: CancellationToken::new(),
            deadline: Mutex::new(deadline),
        });
        let left = deadline.saturating_duration_since(now);
        let due = now + (granted.lease / 5).min(left / 4);
        let kept = Arc::downgrade(&hold);
        let keep = move || keep(renewal, granted.lease, kept);
        Self {
            place: watchdog.begin_at(due, keep),
            watchdog: watchdog.clone(),
            hold,
        }
    }

    /// Resolves when it is lost.
    pub(crate) async fn lost(&self) {
        self.hold.lost.cancelled().await;
    }

    /// Whether it is lost. The holder's own clock decides, so this is right also after the process was stopped.
    pub(crate) fn is_lost(&self) -> bool {
        self.hold.lost.is_cancelled() || Instant::now() >= self.hold.deadline()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.watchdog.forget(self.place);
    }
}

/// Renews five times a lease, for as long as there is somebody to know of it.
async fn keep(renewal: Renewal, lease: Duration, hold: Weak<Hold>) {
    let call = renewal.call(lease);
    while let Some(until) = hold.upgrade().map(|hold| hold.deadline()) {
        let sent = Instant::now();
        let answer = tokio::select! {
            biased;
            () = sleep_until(until) => break,
            answer = renewal.link.call(&call, lease / 5) => answer,
        };
        match answer.and_then(|letters| reply::text(letters, "renew")) {
            Ok(letters) if letters == "k" => {
                if let Some(hold) = hold.upgrade() {
                    hold.extend(safe(sent, lease));
                }
                sleep(lease / 5).await;
            }
            Ok(_) => break,
            Err(error) => {
                tracing::debug!(target: "pmq", %error, "could not renew a lease");
                sleep((lease / 20).min(Duration::from_millis(500))).await;
            }
        }
    }
    if let Some(hold) = hold.upgrade() {
        hold.lost.cancel();
    }
}
