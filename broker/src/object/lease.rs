//! The lease of a member that holds something: renewed by a thread of its own, and never lost silently.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Member;
use crate::connection::link::Link;
use crate::functions::Call;
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

/// Until when the holder may rely on a lease that a call sent then has given: by its own clock, and before the broker
/// ends it.
fn safe(sent: Instant, lease: Duration) -> Instant {
    sent + lease - MARGIN.min(lease / 5)
}

/// How a lease is renewed.
pub(super) struct Renewal {
    pub(super) link: Arc<Link>,
    pub(super) call: Call,
    pub(super) member: Member,
}

/// A lease that is renewed until it is dropped.
pub(crate) struct Lease {
    lost: CancellationToken,
    deadline: Arc<Mutex<Instant>>,
    task: AbortHandle,
}

impl Lease {
    pub(super) fn start(runtime: &Runtime, renewal: Renewal, granted: Granted) -> Self {
        let lost = CancellationToken::new();
        let deadline = Arc::new(Mutex::new(safe(granted.sent, granted.first)));
        let keep = keep(renewal, granted, deadline.clone(), lost.clone());
        Self {
            lost,
            deadline,
            task: runtime.spawn(keep).abort_handle(),
        }
    }

    /// Resolves when it is lost.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Whether it is lost. The holder's own clock decides, so this is right also after the process was stopped.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled() || Instant::now() >= read(&self.deadline)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn read(deadline: &Mutex<Instant>) -> Instant {
    *deadline.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Renews five times a lease, and at once where it is short at first.
async fn keep(
    renewal: Renewal,
    granted: Granted,
    deadline: Arc<Mutex<Instant>>,
    lost: CancellationToken,
) {
    let Renewal { link, call, member } = renewal;
    let lease = granted.lease;
    if granted.first == lease {
        sleep(lease / 5).await;
    }
    let call = call.arg(lease.as_millis() as u64).arg(member.as_bytes());
    loop {
        let until = read(&deadline);
        let sent = Instant::now();
        let answer = tokio::select! {
            biased;
            () = sleep_until(until) => break,
            answer = link.call(&call, lease / 5) => answer,
        };
        match answer.and_then(|letters| reply::text(letters, "renew")) {
            Ok(letters) if letters == "k" => {
                *deadline.lock().unwrap_or_else(PoisonError::into_inner) = safe(sent, lease);
                sleep(lease / 5).await;
            }
            Ok(_) => break,
            Err(error) => {
                tracing::debug!(target: "pmq", %error, "could not renew a lease");
                sleep((lease / 20).min(Duration::from_millis(500))).await;
            }
        }
    }
    lost.cancel();
}
