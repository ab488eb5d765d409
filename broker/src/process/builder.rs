//! What a process runs, and how: everything that is said before it starts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Bond, CurrentProcess, Phase, Process, ProcessError, Result, START_TIMEOUT, current_process,
};
use crate::ids::{Name, TaskId};
use crate::task::{Retry, Task};
use crate::typed;

/// How many processes this one has made, which numbers their names.
static MADE: AtomicU64 = AtomicU64::new(0);

impl Process {
    /// A process that calls a handler with these arguments. In Python this is `Process(target=f, args=args)`.
    ///
    /// Fails only where the arguments have no JSON form.
    pub fn new<A: Serialize, R: DeserializeOwned>(
        task: typed::Task<A, R>,
        args: &A,
    ) -> Result<Self> {
        let task = task.call(args).map_err(ProcessError::Arguments)?;
        Ok(Self::of(task))
    }

    /// A process that runs a command, without a shell. In Python this is `subprocess.Popen`, on any host.
    #[must_use]
    pub fn command<A: Into<Vec<u8>>>(argv: impl IntoIterator<Item = A>) -> Self {
        Self::of(Task::command(argv))
    }

    /// A process of any task; it is tried once, whatever the task says.
    #[must_use]
    pub fn of(mut task: Task) -> Self {
        task.process = true;
        task.retry = Retry {
            attempts: 1,
            crashes: 1,
            ..task.retry
        };
        let current = current_process();
        Self {
            task,
            name: default_name(&current.name),
            bond: Bond::Free,
            attended: false,
            echo: false,
            queue: default_queue(current),
            start_timeout: START_TIMEOUT,
            phase: Phase::Initial,
        }
    }

    /// Sets its name, for people; `Process-N` unless set. In Python this is `Process(name=...)`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets whether it ends with this process, also where this one is killed; false unless set. In Python this is
    /// `Process(daemon=...)`.
    #[must_use]
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.bond = if daemon { Bond::Daemon } else { Bond::Free };
        self
    }

    /// Sets whether it ends with this process as a daemon does, and may have children all the same; false unless set.
    /// Its children should be tied to it in turn, or nobody ends them.
    #[must_use]
    pub fn tied(mut self, tied: bool) -> Self {
        if self.bond != Bond::Daemon {
            self.bond = if tied { Bond::Tied } else { Bond::Free };
        }
        self
    }

    /// Sets whether it waits for this process to read its output by [`Process::log`], as at a full pipe, so that nothing
    /// is lost; false unless set. It waits no longer than this process lives.
    #[must_use]
    pub fn attended(mut self, attended: bool) -> Self {
        self.attended = attended;
        self
    }

    /// Sets whether what it prints appears here, on the stream of the same name, as it does in Python; false unless set.
    /// Whoever joins it then waits for that, too.
    #[must_use]
    pub fn echo(mut self, echo: bool) -> Self {
        self.echo = echo;
        self
    }

    /// Sets the task queue whose workers run it; unless set, the one that the process is on in which this is made, else
    /// `default`.
    #[must_use]
    pub fn queue(mut self, queue: Name) -> Self {
        self.queue = queue;
        self
    }

    /// Sets how long [`Process::start`] waits for a worker; 30 s unless set.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Sets how long it may run until its worker terminates it, in whole ms; no limit unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.task.details.timeout_ms = timeout.as_millis() as u64;
        self
    }

    /// Sets a command's working directory on its host; a private one unless set.
    #[must_use]
    pub fn cwd(mut self, directory: impl Into<String>) -> Self {
        self.task.details.cwd = directory.into();
        self
    }

    /// Sets a variable of a command's environment, beside those of its worker.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.task.details.env.push((name.into(), value.into()));
        self
    }

    /// Its id, as `pmq ps` shows it. Python has only `pid`, which is of one host.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.task.id
    }

    /// Its name. In Python this is `Process.name`.
    #[must_use]
    pub fn process_name(&self) -> &str {
        &self.name
    }

    /// Whether it ends with this process. In Python this is `Process.daemon`.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        self.bond == Bond::Daemon
    }
}

fn default_queue(current: CurrentProcess) -> Name {
    let inherited = current.parent.map(|parent| parent.queue);
    inherited.unwrap_or_else(|| Name::new("default").expect("it keeps to the grammar"))
}

/// `Process-1`, and `Process-1:2` for the second child of that one, as in Python.
fn default_name(parent: &str) -> String {
    let number = MADE.fetch_add(1, Ordering::Relaxed) + 1;
    if parent.starts_with("Process-") {
        format!("{parent}:{number}")
    } else {
        format!("Process-{number}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_parent() {
        assert!(default_name("MainProcess").starts_with("Process-"));
        assert!(default_name("Process-3").starts_with("Process-3:"));
        let process = Process::command(["true"]);
        assert!(process.process_name().starts_with("Process-"));
        assert_eq!(process.name("w").process_name(), "w");
    }

    #[test]
    fn it_runs_at_most_once() {
        let square = typed::Task::<i64, i64>::new("square");
        for process in [
            Process::new(square, &7).unwrap(),
            Process::command(["true"]),
        ] {
            let task = &process.task;
            assert!(task.process && !process.is_daemon());
            assert_eq!((task.retry.attempts, task.retry.crashes), (1, 1));
        }
    }
}
