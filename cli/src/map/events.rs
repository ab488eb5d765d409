//! All that a run waits for, in one place.
use pmq_broker::Completion;
use tokio::sync::mpsc::UnboundedReceiver;

use super::collector::Collector;
use super::feed::{Feed, Step};
use super::lease::Lease;
use super::local::LocalWorkers;
use super::signals::StopSignals;
use super::submitter::News;

/// Where events come from.
#[derive(Debug)]
pub struct Events {
    /// The jobs to come.
    pub feed: Feed,
    /// The completions of those under way.
    pub collector: Collector,
    /// What the submitter has to tell.
    pub news: UnboundedReceiver<News>,
    /// The local workers, where the run has its own.
    pub workers: Option<LocalWorkers>,
    /// The lease under which the jobs are this run's.
    pub lease: Lease,
    /// Ctrl-C and the like.
    pub signals: StopSignals,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The next jobs are there; none at the end of the input.
    Steps(Vec<anyhow::Result<Step>>),
    /// Tasks ended.
    Ended(Vec<Completion>),
    /// The submitter has something to tell.
    News(News),
    /// The user wants it to stop.
    Interrupted,
    /// The run can't go on.
    Failed(anyhow::Error),
}

impl Events {
    /// Waits for the next event; for more jobs only where there is `room` for some.
    pub async fn next(&mut self, room: usize) -> Event {
        tokio::select! {
            () = self.signals.next() => Event::Interrupted,
            Some(news) = self.news.recv() => Event::News(news),
            batch = self.collector.next() => match batch {
                Ok(batch) => Event::Ended(batch),
                Err(error) => Event::Failed(error.into()),
            },
            steps = self.feed.next(room), if room > 0 => Event::Steps(steps),
            error = self.lease.lost() => Event::Failed(error),
            error = failed(self.workers.as_mut()) => Event::Failed(error),
        }
    }
}

async fn failed(workers: Option<&mut LocalWorkers>) -> anyhow::Error {
    match workers {
        Some(workers) => workers.failed().await,
        None => std::future::pending().await,
    }
}
