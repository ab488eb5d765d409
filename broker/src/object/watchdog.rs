//! When leases begin to be renewed. Most are given back before that, and cost no more than a place in a map.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type Begin = Box<dyn FnOnce() -> Task + Send>;

/// When it is due, and a number that tells it from others.
pub(super) type Place = (Instant, u64);

/// Begins tasks at their time, from a task of its own.
#[derive(Default)]
pub(super) struct Watchdog {
    agenda: Mutex<Agenda>,
    /// Something is due earlier than it sleeps.
    earlier: Notify,
}

#[derive(Default)]
struct Agenda {
    due: BTreeMap<Place, Begin>,
    made: u64,
    /// Until when it sleeps; `None` where nothing was due.
    wakes: Option<Instant>,
}

impl Watchdog {
    pub(super) fn start(runtime: &Handle) -> Arc<Self> {
        let watchdog = Arc::new(Self::default());
        runtime.spawn(watchdog.clone().watch());
        watchdog
    }

    /// Begins a task at `due`, unless it is forgotten before.
    pub(super) fn begin_at<F>(
        &self,
        due: Instant,
        begin: impl FnOnce() -> F + Send + 'static,
    ) -> Place
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut agenda = self.agenda();
        agenda.made += 1;
        let place = (due, agenda.made);
        agenda
            .due
            .insert(place, Box::new(move || Box::pin(begin())));
        if agenda.wakes.is_none_or(|wakes| due < wakes) {
            agenda.wakes = Some(due);
            self.earlier.notify_one();
        }
        place
    }

    /// Forgets a task that has not begun.
    pub(super) fn forget(&self, place: Place) {
        self.agenda().due.remove(&place);
    }

    async fn watch(self: Arc<Self>) {
        loop {
            let wakes = self.begin_due();
            let alarm = async {
                match wakes {
                    Some(wakes) => sleep_until(wakes).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = alarm => {}
                () = self.earlier.notified() => {}
            }
        }
    }

    /// Begins what is due; answers when the next is.
    fn begin_due(&self) -> Option<Instant> {
        let mut agenda = self.agenda();
        let now = Instant::now();
        while let Some(first) = agenda
            .due
            .first_entry()
            .filter(|first| first.key().0 <= now)
        {
            tokio::spawn(first.remove()());
        }
        agenda.wakes = agenda.due.first_key_value().map(|(place, _)| place.0);
        agenda.wakes
    }

    fn agenda(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn tasks_begin_in_order_of_their_time_and_not_once_forgotten() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .unwrap();
        let watchdog = Watchdog::start(runtime.handle());
        let (sender, mut begun) = mpsc::unbounded_channel();
        let now = Instant::now();
        let at = |ms| {
            let sender = sender.clone();
            watchdog.begin_at(now + Duration::from_millis(ms), move || async move {
                sender.send(ms).unwrap();
            })
        };
        at(60_000);
        at(600);
        let forgotten = at(400);
        at(10);
        watchdog.forget(forgotten);
        assert_eq!(runtime.block_on(begun.recv()), Some(10));
        assert_eq!(runtime.block_on(begun.recv()), Some(600));
        assert!(begun.try_recv().is_err());
    }
}
