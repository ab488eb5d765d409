//! The hatch where listeners hand tokens to the one who waits.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

/// One waits, several listen. A token is handed over only to somebody who waits, so none is lost on the way.
#[derive(Default)]
pub(super) struct Hatch {
    waits: Mutex<Option<oneshot::Sender<usize>>>,
    bell: Notify,
}

impl Hatch {
    /// Waits for what any listener hands over; `None` where the time is over.
    pub(super) async fn wait(&self, longest: Duration) -> Option<usize> {
        let (hand, mut handed) = oneshot::channel();
        *self.waits() = Some(hand);
        self.bell.notify_waiters();
        if let Ok(Ok(token)) = timeout(longest, &mut handed).await {
            return Some(token);
        }
        handed.close();
        handed.try_recv().ok() // it may have come at the last moment
    }

    /// Until somebody waits.
    pub(super) async fn wanted(&self) {
        loop {
            let rung = self.bell.notified();
            if self.waits().as_ref().is_some_and(|hand| !hand.is_closed()) {
                return;
            }
            rung.await;
        }
    }

    /// Hands a token over; false where nobody waits any more.
    pub(super) fn hand(&self, token: usize) -> bool {
        let hand = self.waits().take();
        hand.is_some_and(|hand| hand.send(token).is_ok())
    }

    fn waits(&self) -> MutexGuard<'_, Option<oneshot::Sender<usize>>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_token_goes_to_who_waits_and_otherwise_nowhere() {
        let hatch = Arc::new(Hatch::default());
        assert!(!hatch.hand(1), "nobody waits yet");
        let listener = tokio::spawn({
            let hatch = hatch.clone();
            async move {
                hatch.wanted().await;
                (hatch.hand(2), hatch.hand(3))
            }
        });
        assert_eq!(hatch.wait(SOON).await, Some(2));
        assert_eq!(listener.await.unwrap(), (true, false));
        assert_eq!(hatch.wait(Duration::ZERO).await, None);
        assert!(!hatch.hand(4), "it does not wait any more");
    }

    #[tokio::test]
    async fn who_gave_the_wait_up_is_handed_nothing() {
        let hatch = Arc::new(Hatch::default());
        let waits = tokio::spawn({
            let hatch = hatch.clone();
            async move { hatch.wait(SOON).await }
        });
        hatch.wanted().await;
        waits.abort();
        assert!(waits.await.unwrap_err().is_cancelled());
        assert!(!hatch.hand(1));
    }

    const EACH: usize = 200;

    async fn hand_all(hatch: Arc<Hatch>, first: usize) {
        let mut next = first;
        while next < first + EACH {
            hatch.wanted().await;
            next += usize::from(hatch.hand(next));
        }
    }

    /// Whatever the order in which things happen, each token is either handed over once or kept by its listener.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_token_is_lost_or_doubled_among_many_listeners() {
        let (hatch, mut listeners) = (Arc::new(Hatch::default()), JoinSet::new());
        for listener in 0..4 {
            listeners.spawn(hand_all(hatch.clone(), listener * EACH));
        }
        let mut got = Vec::new();
        while got.len() < 4 * EACH {
            let longest = [Duration::from_micros(fastrand::u64(0..200)), SOON];
            got.extend(hatch.wait(longest[usize::from(fastrand::bool())]).await);
        }
        listeners.join_all().await;
        got.sort_unstable();
        assert!(got.into_iter().eq(0..4 * EACH));
    }
}
