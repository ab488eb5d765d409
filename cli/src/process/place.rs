//! Where a process runs: in a worker of its own on the local broker, or on a fleet.

use pmq_broker::{Broker, Name, TaskQueue};

use crate::context::Context;
use crate::map::local::{Crew, LocalWorkers};
use crate::map::{leftover, place};
use crate::output::note;

/// Where a process runs.
pub(crate) struct Place {
    pub(crate) broker: Broker,
    pub(crate) queue: TaskQueue,
    /// The directory of the process; a private one where empty.
    pub(crate) cwd: String,
    /// The process's own worker, where the queue is its own as well.
    worker: Option<LocalWorkers>,
}

impl Place {
    /// On the local broker, where no queue is named: a queue of its own with a worker of its own, in this directory.
    pub(crate) async fn here(context: &Context) -> anyhow::Result<Self> {
        let broker = context.connect().await?;
        if let Err(error) = leftover::delete(&broker).await {
            tracing::info!("could not look for queues that killed runs left: {error}");
        }
        let queue = broker.task_queue(&leftover::name()?);
        let crew = Crew {
            namespace: context.config.namespace.to_string(),
            queue: queue.name().to_string(),
            processes: 1,
            slots: 1,
        };
        Ok(Self {
            cwd: place::here()?,
            worker: Some(crew.start()?),
            broker,
            queue,
        })
    }

    /// On a fleet, on this queue.
    pub(crate) async fn on_fleet(context: &Context, queue: &Name) -> anyhow::Result<Self> {
        let broker = context.connect().await?;
        Ok(Self {
            queue: broker.task_queue(queue),
            broker,
            cwd: String::new(),
            worker: None,
        })
    }

    /// Says so where nobody is there who could start the process.
    pub(crate) async fn explain_wait(&self) -> anyhow::Result<()> {
        let queue = self.queue.name();
        if self.worker.is_none() && place::slots(&self.broker, queue).await? == 0 {
            note(&format!(
                "note: no live worker of queue {queue} runs commands; waiting for one"
            ));
        }
        Ok(())
    }

    /// Waits until the process's own worker can't be kept running, and says why.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match &mut self.worker {
            Some(worker) => worker.failed().await,
            None => std::future::pending().await,
        }
    }

    /// Ends what was the process's own.
    pub(crate) async fn close(self) -> pmq_broker::Result<()> {
        let Some(worker) = self.worker else {
            return Ok(());
        };
        worker.stop().await;
        self.queue.delete().await
    }
}
