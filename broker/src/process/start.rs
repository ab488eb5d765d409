//! start: a process goes to the fleet, and a worker runs it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::children::{Child, children_of};
use super::sight::Sight;
use super::{
    Bond, Facts, Handle, Lineage, Parent, Phase, Process, ProcessError, Result, current_process,
};
use crate::broker::Broker;
use crate::ids::{Incarnation, TaskId};
use crate::task_queue::{Cancelled, Look, Signal, TaskQueue};

/// How often a lost message costs no more than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Process {
    /// Starts it: returns when a worker runs it. In Python this is `Process.start`.
    ///
    /// Where no worker does within the start timeout, it is cancelled and may be started again. A task
    /// that waits for its child to start lends its slot meanwhile.
    pub async fn start(&mut self, broker: &Broker) -> Result<()> {
        match self.phase {
            Phase::Initial => {}
            Phase::Started(_) => return Err(ProcessError::StartedTwice),
            Phase::Closed => return Err(ProcessError::Closed),
        }
        let queue = broker.task_queue(&self.queue);
        let client = Box::pin(self.adopt(broker, &queue)).await?;
        let reader = self.attended.then_some(client);
        if let Some(reader) = reader {
            // Before it runs, so that it can't be ahead of its reader.
            let shard = queue.shard_of(self.task.id).await?;
            shard.log_read(self.task.id, reader, 0).await?;
        }
        let deadline = Instant::now() + self.start_timeout;
        let mut sight = Sight::open(&queue, self.task.id).await;
        Box::pin(queue.submit(&self.task)).await?;
        let wanted = |look: &Look| !matches!(look, Look::Waiting);
        let mut look = sight.wait(wanted, Some(deadline), LOOK_EVERY).await?;
        if look == Look::Waiting {
            look = Box::pin(self.give_up(&queue, &mut sight)).await?;
        }
        let handle = Handle {
            queue,
            id: self.task.id,
            facts: Arc::new(Facts::default()),
            reader,
        };
        handle.facts.learn(look);
        if self.echo {
            handle.echo();
        }
        children_of(broker).add(Child {
            queue: self.queue.clone(),
            id: handle.id,
            name: self.name.clone(),
            tied: self.task.owner.is_some(),
            daemon: self.is_daemon(),
            facts: handle.facts.clone(),
        });
        self.phase = Phase::Started(handle);
        Ok(())
    }

    /// Makes it a child of this process; answers as which client this process is the parent.
    async fn adopt(&mut self, broker: &Broker, queue: &TaskQueue) -> Result<Incarnation> {
        let current = current_process();
        if current.daemon {
            return Err(ProcessError::DaemonicChildren);
        }
        let client = children_of(broker).client(queue).await?;
        self.task.owner = (self.bond != Bond::Free).then_some(client);
        self.task.details.process = Some(Lineage {
            name: self.name.clone(),
            daemon: self.is_daemon(),
            parent: Parent {
                name: current.name,
                pid: current.pid,
                host: current.host,
                id: current.id,
                queue: self.queue.clone(),
                client,
            },
        });
        Ok(client)
    }

    /// Cancels what no worker has started. One that was claimed at this very moment may have ended by itself.
    async fn give_up(&mut self, queue: &TaskQueue, sight: &mut Sight) -> Result<Look> {
        let answers = queue.cancel(&[self.task.id], Signal::Kill).await?;
        if answers.first() != Some(&Cancelled::Ended) {
            let ended = |look: &Look| matches!(look, Look::Ended(_) | Look::Unknown);
            let patience = Instant::now() + 5 * LOOK_EVERY;
            sight.wait(ended, Some(patience), LOOK_EVERY).await?;
            self.task.id = TaskId::new(); // so that it can be started again
            return Err(ProcessError::StartTimeout {
                queue: self.queue.clone(),
                timeout: self.start_timeout,
            });
        }
        Ok(queue.look(self.task.id).await?)
    }
}
