//! How a pool is opened.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::mpsc::unbounded_channel;
use uuid::Uuid;

use super::collector::{self, Collector};
use super::core::{Core, Parts};
use super::crew::CrewLink;
use super::submitter::Submitter;
use super::window::Window;
use super::{Pool, PoolError, own_queue};
use crate::broker::Broker;
use crate::error::Result;
use crate::fleet;
use crate::ids::Name;
use crate::lending::without_lending;
use crate::task::{Chunk, Initializer};
use crate::typed::Task;

/// A pool that is being set up. In Python these are the arguments of `Pool`.
pub struct PoolBuilder {
    broker: Broker,
    processes: usize,
    queue: Option<Name>,
    initializer: Option<(&'static str, Result<serde_json::Value, PoolError>)>,
    max_tasks_per_child: Option<u32>,
}

impl PoolBuilder {
    pub(super) fn new(broker: Broker) -> Self {
        Self {
            broker,
            processes: 1,
            queue: None,
            initializer: None,
            max_tasks_per_child: None,
        }
    }

    /// Sets how many chunks run at a time; 1 unless set. In Python this is `Pool(processes=n)`.
    #[must_use]
    pub fn processes(mut self, n: usize) -> Self {
        self.processes = n;
        self
    }

    /// Sets the fleet's queue; `default` unless set.
    #[must_use]
    pub fn queue(mut self, name: Name) -> Self {
        self.queue = Some(name);
        self
    }

    /// Sets a task that each worker process runs before its first chunk of the pool. In Python these are
    /// `initializer` and `initargs`.
    ///
    /// Where it fails three times in a row, the pool is given up ([`PoolError::Initializer`]); likewise where it takes
    /// its process down, once a chunk has lost three workers before any was done, or two chunks in a row have
    /// ([`PoolError::InitializerLost`]).
    #[must_use]
    pub fn initializer<A: Serialize, R>(mut self, task: Task<A, R>, args: &A) -> Self {
        let args = serde_json::to_value(args).map_err(|error| PoolError::Argument {
            index: 0,
            message: error.to_string(),
        });
        self.initializer = Some((task.name(), args));
        self
    }

    /// Sets after how many chunks a worker process is replaced; never unless set. In Python this is
    /// `maxtasksperchild`, which counts chunks as well.
    ///
    /// On a fleet, whose workers are not the pool's, the process stays and runs the initializer again.
    #[must_use]
    pub fn max_tasks_per_child(mut self, chunks: u32) -> Self {
        self.max_tasks_per_child = Some(chunks);
        self
    }

    /// After how many chunks a worker process is to be replaced.
    #[must_use]
    pub fn tasks_per_child(&self) -> Option<u32> {
        self.max_tasks_per_child
    }

    /// How many chunks run at a time.
    #[must_use]
    pub fn process_count(&self) -> usize {
        self.processes
    }

    /// Opens the pool on the fleet. In Python this is `Pool(...)`.
    pub async fn open(mut self) -> Result<Pool, PoolError> {
        let every = self.max_tasks_per_child.unwrap_or(0);
        let chunk = self.check(every)?;
        let name = match self.queue.take() {
            Some(name) => name,
            None => Name::new("default")?,
        };
        let queue = self.broker.task_queue(&name);
        // Where the fleet has more slots, only this process can keep the number.
        let ahead = (1..=self.processes).contains(&fleet::slots(&self.broker, Some(&name)).await?);
        let parts = Parts {
            queue,
            chunk,
            processes: self.processes,
            window: Window::new(self.processes, ahead),
            may_travel_together: self.max_tasks_per_child.is_none(),
            tasks: None,
        };
        Ok(start(parts).await?.0)
    }

    /// Opens the pool on a queue of its own, for workers that the caller starts, as many as there are processes, and
    /// that know these tasks.
    pub async fn open_with_crew(
        mut self,
        tasks: HashSet<String>,
    ) -> Result<(Pool, CrewLink), PoolError> {
        let chunk = self.check(0)?;
        if let Some((name, _)) = &self.initializer
            && !tasks.contains(*name)
        {
            return Err(PoolError::UnknownTask {
                name: (*name).to_owned(),
            });
        }
        let queue = own_queue(&self.broker).await?;
        let parts = Parts {
            queue,
            chunk,
            processes: self.processes,
            window: Window::new(self.processes, true),
            may_travel_together: self.max_tasks_per_child.is_none(),
            tasks: Some(tasks),
        };
        let (pool, core) = start(parts).await?;
        Ok((pool, CrewLink(core)))
    }

    fn check(&mut self, every: u32) -> Result<Chunk, PoolError> {
        if self.processes == 0 {
            return Err(PoolError::NoProcesses);
        }
        if self.max_tasks_per_child == Some(0) {
            return Err(PoolError::NoTasksPerChild);
        }
        let Some((name, args)) = &self.initializer else {
            return Ok(Chunk::default());
        };
        let initializer = Initializer {
            pool: Uuid::now_v7().simple().to_string(),
            name: (*name).to_owned(),
            args: args.clone()?,
            every,
        };
        Ok(Chunk {
            initializer: Some(initializer),
            ..Chunk::default()
        })
    }
}

/// Joins the queue, and sets the parts of the pool to work.
async fn start(parts: Parts) -> Result<(Pool, Arc<Core>), PoolError> {
    let queue = parts.queue.clone();
    let completions = Name::new(format!("pool.{}", Uuid::now_v7().simple()))?;
    // Joined before it is registered: a registered queue that nobody has joined is a leftover.
    let owner = queue.join_as_owner(&completions).await?;
    queue.register().await?;
    let has_crew = parts.tasks.is_some();
    let core = Core::new(parts, owner.incarnation(), completions.clone());
    let core = Arc::new(core);
    let (outbox, flights) = unbounded_channel();
    let collector = Collector {
        core: core.clone(),
        consumer: queue.completions(&completions).with_lease(collector::LEASE),
        outbox: outbox.downgrade(),
    };
    let submitter = Submitter {
        core: core.clone(),
        outbox: flights,
        owner,
        collector: tokio::spawn(without_lending(collector.run())),
        has_crew,
    };
    tokio::spawn(without_lending(submitter.run()));
    Ok((Pool::with_parts(core.clone(), outbox), core))
}
