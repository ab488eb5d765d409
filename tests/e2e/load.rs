//! Work that goes on while a test changes the servers below it, and whether all of it was done, each task once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pmq_broker::task_queue::Ending;
use pmq_broker::{Outcome, TaskId};
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::fleet::{Fleet, LONG, sh};

/// How long after a failover everything works again.
const RESUMED: Duration = Duration::from_secs(5);

/// Between two tasks of a producer: what two slots can do, also on a busy machine.
const PACE: Duration = Duration::from_millis(25);

/// Submits tasks, one after another, until it is stopped.
pub(crate) struct Producer {
    stopped: Arc<AtomicBool>,
    submitted: JoinHandle<Submitted>,
}

#[derive(Default)]
pub(crate) struct Submitted {
    pub(crate) acknowledged: HashSet<TaskId>,
    /// Whether they exist nobody knows.
    pub(crate) unknown: HashSet<TaskId>,
    /// The longest that one took.
    pub(crate) longest: Duration,
}

impl Producer {
    pub(crate) fn start(fleet: &Fleet) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let (queue, stop) = (fleet.queue.clone(), stopped.clone());
        let directory = fleet.path("");
        let submitted = tokio::spawn(async move {
            let mut submitted = Submitted::default();
            let mut pace = interval(PACE);
            while !stop.load(Ordering::Relaxed) {
                pace.tick().await;
                let (task, start) = (sh("record", &directory), Instant::now());
                let known = match queue.submit(&task).await {
                    Ok(_) => &mut submitted.acknowledged,
                    Err(_) => &mut submitted.unknown,
                };
                known.insert(task.id);
                submitted.longest = submitted.longest.max(start.elapsed());
            }
            submitted
        });
        Self { stopped, submitted }
    }

    pub(crate) async fn stop(self) -> Submitted {
        self.stopped.store(true, Ordering::Relaxed);
        self.submitted.await.unwrap()
    }
}

/// All that was acknowledged is done, each once.
pub(crate) async fn all_is_done(fleet: &Fleet, submitted: &Submitted) {
    let mut consumer = fleet.consumer();
    let (mut done, mut left) = (HashSet::new(), submitted.acknowledged.clone());
    let end = Instant::now() + LONG;
    while !left.is_empty() {
        assert!(Instant::now() < end, "not done: {left:?}");
        let batch = consumer.get_many(500, Duration::from_secs(1)).await;
        for completion in batch.unwrap_or_default() {
            assert_eq!(completion.outcome, Outcome::Ok);
            assert!(
                done.insert(completion.id),
                "completed twice: {completion:?}"
            );
            left.remove(&completion.id);
        }
    }
    let strange: Vec<_> = done
        .difference(&submitted.acknowledged)
        .filter(|id| !submitted.unknown.contains(id))
        .collect();
    assert!(strange.is_empty(), "nobody submitted {strange:?}");
    consumer.close().await.unwrap();
}

/// A task that is submitted now is done soon; answers which.
pub(crate) async fn works_again(fleet: &Fleet) -> TaskId {
    let start = Instant::now();
    let mut first = fleet.sh("true");
    first.priority = 9;
    let id = fleet.submit(&first).await;
    let endings = fleet.queue.wait(&[id], RESUMED).await.unwrap();
    let done = matches!(endings[..], [Ending::Ended(_)]);
    assert!(done, "not done within {RESUMED:?}: {endings:?}");
    let took = start.elapsed();
    assert!(took < RESUMED, "{took:?}");
    id
}
