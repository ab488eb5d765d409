//! What a process is told about itself and its parent. Plain data, a part of the task's header.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, Name, TaskId};

/// What a process is told about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// Its name.
    pub name: String,
    /// Whether it ends with its parent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub daemon: bool,
    /// Who started it.
    pub parent: Parent,
}

impl Lineage {
    /// The variables that tell a command what it is; [`current_process`](super::current_process) reads them.
    #[must_use]
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        let parent = &self.parent;
        let mut variables = vec![
            ("PMQ_PROCESS_NAME", self.name.clone()),
            ("PMQ_PARENT_NAME", parent.name.clone()),
            ("PMQ_PARENT_PID", parent.pid.to_string()),
            ("PMQ_PARENT_HOST", parent.host.clone()),
            ("PMQ_PARENT_QUEUE", parent.queue.to_string()),
            ("PMQ_PARENT_CLIENT", parent.client.to_string()),
        ];
        // Empty where they do not hold, as the worker may be a process itself and hand its own on.
        let daemon = if self.daemon { "1" } else { "" };
        let id = parent.id.map_or_else(String::new, |id| id.to_string());
        variables.extend([("PMQ_DAEMON", daemon.to_owned()), ("PMQ_PARENT_ID", id)]);
        variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }
}

/// Who started a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its name; `MainProcess` where no pmq process started it.
    pub name: String,
    /// Its id in the operating system of `host`.
    pub pid: u32,
    /// The name of its host.
    pub host: String,
    /// Its id, where it is a process or a task itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<TaskId>,
    /// The queue on which its lease is.
    pub queue: Name,
    /// The client whose lease says that it lives.
    pub client: Incarnation,
}
