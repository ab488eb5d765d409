//! The consumer: gets the completions of the run, many at once.
use std::time::Duration;

use pmq_broker::task_queue::Consumer;
use pmq_broker::{Completion, Result};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The most completions of one call.
const BATCH: usize = 500;
/// How long one call waits for the first.
const WAIT: Duration = Duration::from_secs(30);
/// How long it waits before it asks again a broker that is away.
const PAUSE: Duration = Duration::from_secs(1);
/// How long it lets completions gather where no slot waits for them: not long enough for people to notice.
const GATHER: Duration = Duration::from_millis(10);

/// Gets completions in the background, one batch ahead of who handles them.
#[derive(Debug)]
pub struct Collector {
    batches: mpsc::Receiver<Result<Vec<Completion>>>,
    stop: CancellationToken,
    done: JoinHandle<()>,
}

impl Collector {
    /// Starts to get; `at_once` is for a run whose next jobs wait for these ends.
    #[must_use]
    pub fn start(consumer: Consumer, at_once: bool) -> Self {
        let (sender, batches) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let gather = if at_once { Duration::ZERO } else { GATHER };
        let done = tokio::spawn(collect(consumer, sender, (gather, stop.clone())));
        Self {
            batches,
            stop,
            done,
        }
    }

    /// The next batch. Loses nothing when dropped. After an error none comes.
    pub async fn next(&mut self) -> Result<Vec<Completion>> {
        match self.batches.recv().await {
            Some(batch) => batch,
            // It ends only when it is told to, or after an error that was handed out.
            None => std::future::pending().await,
        }
    }

    /// Confirms what was got, and leaves.
    pub async fn close(mut self) {
        self.stop.cancel();
        self.batches.close();
        let _ = self.done.await;
    }
}

async fn collect(
    mut consumer: Consumer,
    batches: mpsc::Sender<Result<Vec<Completion>>>,
    (gather, stop): (Duration, CancellationToken),
) {
    let get = async {
        loop {
            match consumer.get_many(BATCH, WAIT).await {
                Ok(batch) if batch.is_empty() => {}
                Err(error) if error.is_transient() => tokio::time::sleep(PAUSE).await,
                batch => {
                    let failed = batch.is_err();
                    if batches.send(batch).await.is_err() || failed {
                        return;
                    }
                    if !gather.is_zero() {
                        tokio::time::sleep(gather).await;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = get => {}
    }
    // A call that was dropped half-way may have taken a batch: asking again under the same number tells.
    if consumer.get_many_nowait(0).await.is_ok()
        && let Err(error) = consumer.close().await
    {
        tracing::debug!(%error, "the consumer did not leave");
    }
}
