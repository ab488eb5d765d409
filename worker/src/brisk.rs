//! Brisk runs: where the last runs were ready at once, the next one starts beside the roles, without a change of threads.
//!
//! A run that blocks there after all holds the roles up until the watch notices and lets another thread take them over,
//! some hundredths of a second later. Then it takes twice as many brisk runs in a row before one is trusted again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};

/// How long a run may take that is brisk.
const BRISK: Duration = Duration::from_micros(200);
/// So many brisk runs in a row are trusted at first.
const FIRST: u32 = 16;
const MOST: u32 = 1 << 16;
/// How often the watch looks while runs start here.
const TICK: Duration = Duration::from_millis(10);
/// After so many looks that saw no run it sleeps.
const IDLE: u32 = 100;

type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts runs one by one: here while the last ones were brisk, else in their program's runtime.
pub(crate) struct Starter {
    runtime: Handle,
    pace: Arc<Pace>,
    watch: Option<Thread>,
}

/// How the last runs went.
struct Pace {
    born: Instant,
    /// Brisk runs in a row.
    row: AtomicU32,
    /// How long a row is trusted.
    trusted: AtomicU32,
    /// Since when a run is here, in µs since `born`; 0 where none is.
    since: AtomicU64,
    /// Whether the watch looks.
    watched: AtomicBool,
}

impl Starter {
    /// Starts runs of this program's runtime. Where that has one thread, handlers may count on being alone, so none of
    /// them runs here.
    pub(crate) fn new(runtime: Handle) -> Self {
        let pace = Arc::new(Pace::new());
        let watch = (runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
            .then(|| start_watch(&pace))
            .flatten();
        Self {
            runtime,
            pace,
            watch,
        }
    }

    /// Starts one run. Nothing that the caller's runtime has to do may wait for the caller meanwhile, as it may block.
    pub(crate) fn start(&self, run: Run) {
        match &self.watch {
            Some(watch) if self.pace.is_trusted() => self.start_here(run, watch),
            _ => drop(self.runtime.spawn(self.pace.clone().time(run))),
        }
    }

    /// Whether the next run starts here.
    pub(crate) fn is_here(&self) -> bool {
        self.watch.is_some() && self.pace.is_trusted()
    }

    fn start_here(&self, mut run: Run, watch: &Thread) {
        let begin = Instant::now();
        self.pace.enter(begin, watch);
        let ready = {
            let _entered = self.runtime.enter();
            let mut context = Context::from_waker(Waker::noop());
            // A panic ends the run alone, as it would in a task of its own.
            let polled = catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(&mut context)));
            polled.map_or(true, |polled| polled.is_ready())
        };
        self.pace.leave(ready, begin.elapsed());
        if !ready {
            drop(self.runtime.spawn(run));
        }
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            self.pace.watched.store(true, Ordering::SeqCst);
            watch.unpark();
        }
    }
}

impl Pace {
    fn new() -> Self {
        Self {
            born: Instant::now(),
            row: AtomicU32::new(0),
            trusted: AtomicU32::new(FIRST),
            since: AtomicU64::new(0),
            watched: AtomicBool::new(false),
        }
    }

    fn is_trusted(&self) -> bool {
        let row = self.row.load(Ordering::Relaxed);
        row >= self.trusted.load(Ordering::Relaxed) && self.since.load(Ordering::SeqCst) == 0
    }

    /// Runs it to its end, and notes whether it is ready at once.
    async fn time(self: Arc<Self>, mut run: Run) {
        let begin = Instant::now();
        let ready = std::future::poll_fn(|context| {
            std::task::Poll::Ready(run.as_mut().poll(context).is_ready())
        });
        let ready = ready.await;
        self.note(ready, begin.elapsed());
        if !ready {
            run.await;
        }
    }

    fn note(&self, ready: bool, took: Duration) {
        if ready && took < BRISK {
            self.row.fetch_add(1, Ordering::Relaxed);
        } else {
            self.row.store(0, Ordering::Relaxed);
        }
    }

    /// A run that was trusted is over. One that blocked was a surprise.
    fn leave(&self, ready: bool, took: Duration) {
        self.since.store(0, Ordering::SeqCst);
        self.note(ready, took);
        if took > TICK {
            let twice = self.trusted.load(Ordering::Relaxed) * 2;
            self.trusted.store(twice.min(MOST), Ordering::Relaxed);
        }
    }

    fn enter(&self, now: Instant, watch: &Thread) {
        let since = (now - self.born).as_micros() as u64;
        self.since.store(since.max(1), Ordering::SeqCst);
        if !self.watched.swap(true, Ordering::SeqCst) {
            watch.unpark();
        }
    }

    /// Since when a run has been here that is late.
    fn late(&self) -> Option<u64> {
        let since = self.since.load(Ordering::SeqCst);
        let now = self.born.elapsed().as_micros() as u64;
        let is_late = since > 0 && now.saturating_sub(since) > TICK.as_micros() as u64;
        is_late.then_some(since)
    }
}

/// The watch over the threads of the caller's runtime; `None` where the system has no thread left for it.
fn start_watch(pace: &Arc<Pace>) -> Option<Thread> {
    let (pace, roles) = (Arc::downgrade(pace), Handle::current());
    let watch = thread::Builder::new().name("pmq-watch".to_owned());
    let watch = watch.spawn(move || watch_over(&pace, &roles)).ok()?;
    Some(watch.thread().clone())
}

/// Until the starter is gone.
fn watch_over(pace: &Weak<Pace>, roles: &Handle) {
    let (mut idle, mut rescued) = (0, None);
    loop {
        let Some(pace) = pace.upgrade() else { return };
        let watched = pace.watched.load(Ordering::SeqCst);
        let late = pace.late();
        if late.is_some() && late != rescued {
            // Any task wakes the runtime's other thread, which takes over what the first one does not do.
            roles.spawn(std::future::ready(()));
            rescued = late;
        }
        idle = if pace.since.load(Ordering::SeqCst) > 0 {
            0
        } else {
            idle + 1
        };
        if idle > IDLE {
            idle = 0;
            pace.watched.store(false, Ordering::SeqCst);
            // A run may have come in between, and found the watch awake.
            if pace.since.load(Ordering::SeqCst) > 0 {
                pace.watched.store(true, Ordering::SeqCst);
            }
        }
        drop(pace);
        if watched {
            thread::park_timeout(TICK);
        } else {
            thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many brisk runs it takes until the next one is trusted.
    fn runs_until_trusted(pace: &Pace) -> usize {
        let brisk = std::iter::repeat_with(|| pace.note(true, Duration::ZERO));
        brisk.take_while(|()| !pace.is_trusted()).count() + 1
    }

    #[test]
    fn a_row_of_brisk_runs_is_trusted_and_after_a_surprise_one_twice_as_long() {
        let pace = Pace::new();
        assert_eq!(runs_until_trusted(&pace), 16);
        pace.note(true, TICK);
        assert!(!pace.is_trusted(), "it was slow");
        assert_eq!(runs_until_trusted(&pace), 16);
        pace.note(false, Duration::ZERO);
        assert_eq!(runs_until_trusted(&pace), 16);
        pace.leave(true, 2 * TICK);
        assert_eq!(runs_until_trusted(&pace), 32);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn while_a_run_blocks_here_another_thread_does_what_this_one_had_to() {
        let starter = Starter::new(Handle::current());
        while !starter.is_here() {
            starter.pace.note(true, Duration::ZERO);
        }
        let (release, released) = std::sync::mpsc::channel::<()>();
        let blocks = tokio::spawn(async move {
            let run = async move { released.recv().expect("the other task sends") };
            starter.start(Box::pin(run));
        });
        let others = tokio::spawn(async move {
            tokio::time::sleep(TICK).await;
            release.send(()).expect("the run waits");
        });
        others.await.unwrap();
        blocks.await.unwrap();
    }
}
