//! What runs here: this process, its parent, and how much the fleet can run.

use std::env;
use std::str::FromStr;
use std::sync::Arc;

use super::{Children, Lineage, Parent, Result};
use crate::broker::Broker;
use crate::fleet;
use crate::ids::{Incarnation, Name, TaskId};

/// The name of a process that no pmq process is the parent of, as in Python.
const MAIN: &str = "MainProcess";

tokio::task_local! {
    /// The process that a handler is, where it is one.
    static SCOPE: Scope;
}

struct Scope {
    current: CurrentProcess,
    children: Arc<Children>,
}

/// The process that runs here. In Python this is what `current_process()` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentProcess {
    /// Its name; `MainProcess` where pmq did not start it.
    pub name: String,
    /// Its id in the operating system.
    pub pid: u32,
    /// The name of its host.
    pub host: String,
    /// Its id, where it runs inside a task.
    pub id: Option<TaskId>,
    /// Whether it ends with its parent; then it may have no children.
    pub daemon: bool,
    /// Its parent, where pmq started it.
    pub parent: Option<Parent>,
}

/// The parent of the process that runs here. In Python this is what `parent_process()` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentProcess(Parent);

impl CurrentProcess {
    /// A handler's process, for its worker.
    #[must_use]
    pub fn handler(id: TaskId, lineage: &Lineage) -> Self {
        Self {
            name: lineage.name.clone(),
            id: Some(id),
            daemon: lineage.daemon,
            parent: Some(lineage.parent.clone()),
            ..Self::main()
        }
    }

    fn main() -> Self {
        Self {
            name: MAIN.to_owned(),
            pid: std::process::id(),
            host: host(),
            id: None,
            daemon: false,
            parent: None,
        }
    }

    /// What the worker of a command told it in its environment.
    fn from_env() -> Self {
        let parent = Parent::from_env();
        Self {
            name: env::var("PMQ_PROCESS_NAME").unwrap_or_else(|_| MAIN.to_owned()),
            id: parsed("PMQ_TASK_ID"),
            daemon: env::var_os("PMQ_DAEMON").is_some_and(|daemon| !daemon.is_empty()),
            parent,
            ..Self::main()
        }
    }
}

impl Parent {
    fn from_env() -> Option<Self> {
        let client: TaskId = parsed("PMQ_PARENT_CLIENT")?; // a UUID, as both are
        Some(Self {
            name: env::var("PMQ_PARENT_NAME").ok()?,
            pid: parsed("PMQ_PARENT_PID")?,
            host: env::var("PMQ_PARENT_HOST").ok()?,
            id: parsed("PMQ_PARENT_ID"),
            queue: Name::new(env::var("PMQ_PARENT_QUEUE").ok()?).ok()?,
            client: Incarnation::from_slice(client.as_bytes())?,
        })
    }
}

fn parsed<T: FromStr>(variable: &str) -> Option<T> {
    env::var(variable).ok()?.parse().ok()
}

fn host() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// The process that runs here. In Python this is `current_process`.
///
/// A handler that was started as a process is one of its own, in the task that its worker calls it in: not in others that
/// it spawns. A command's program asks its environment.
#[must_use]
pub fn current_process() -> CurrentProcess {
    SCOPE
        .try_with(|scope| scope.current.clone())
        .unwrap_or_else(|_| CurrentProcess::from_env())
}

/// The parent of the process that runs here, `None` where pmq did not start it. In Python this is `parent_process`.
#[must_use]
pub fn parent_process() -> Option<ParentProcess> {
    current_process().parent.map(ParentProcess)
}

impl ParentProcess {
    /// Its name. In Python this is `parent_process().name`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its id in the operating system of its host. In Python this is `parent_process().pid`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// The name of its host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// Its id, where it is a task itself.
    #[must_use]
    pub fn id(&self) -> Option<TaskId> {
        self.0.id
    }

    /// Whether it lives: its lease goes on. After its death that takes up to 15 s to show. In Python this is
    /// `parent_process().is_alive()`.
    pub async fn is_alive(&self, broker: &Broker) -> Result<bool> {
        let queue = broker.task_queue(&self.0.queue);
        Ok(queue.is_client_alive(self.0.client).await?)
    }
}

/// How many tasks the workers that are up can run at once, at least 1. In Python this is `cpu_count`.
pub async fn cpu_count(broker: &Broker) -> crate::error::Result<usize> {
    Ok(fleet::slots(broker, None).await?.max(1))
}

/// Runs a handler as the process that it is, for its worker. When it ends, its daemons are terminated.
pub async fn scope<F: Future>(current: CurrentProcess, handler: F) -> F::Output {
    let children = Arc::default();
    SCOPE.scope(Scope { current, children }, handler).await
}

pub(super) fn scoped_children() -> Option<Arc<Children>> {
    SCOPE.try_with(|scope| scope.children.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage() -> Lineage {
        Lineage {
            name: "w".into(),
            daemon: true,
            parent: Parent {
                name: MAIN.into(),
                pid: 7,
                host: "there".into(),
                id: None,
                queue: Name::new("q").unwrap(),
                client: Incarnation::new(),
            },
        }
    }

    #[tokio::test]
    async fn a_handler_is_the_process_that_it_was_started_as() {
        assert_eq!(current_process().name, MAIN);
        assert_eq!(parent_process(), None);
        let id = TaskId::new();
        let inside = scope(CurrentProcess::handler(id, &lineage()), async {
            (current_process(), parent_process().unwrap())
        });
        let (current, parent) = inside.await;
        assert_eq!(
            (current.name.as_str(), current.id, current.daemon),
            ("w", Some(id), true)
        );
        assert_eq!((parent.pid(), parent.host()), (7, "there"));
        assert!(scoped_children().is_none());
    }
}
