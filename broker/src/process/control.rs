//! What can be done with a process that was started: join, terminate, kill, and look at it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::sight::Sight;
use super::{
    Bond, Facts, Handle, Log, Phase, Process, ProcessError, Result, START_TIMEOUT, exitcode_of,
};
use crate::completion::{Completion, Outcome};
use crate::ids::TaskId;
use crate::task::{Task, Work};
use crate::task_queue::{Look, Signal, Started, State, TaskQueue, deadline_after};
use crate::typed;

/// A lost message costs a joiner no more than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same for who kills, as that is soon over.
const LOOK_AFTER_KILL: Duration = Duration::from_millis(250);

impl Process {
    /// A handle to a process, or to any task, that was started elsewhere. Python has none.
    pub async fn attach(queue: &TaskQueue, id: TaskId) -> Result<Self> {
        let found = queue.find(id).await?;
        if found.state == State::Unknown {
            return Err(ProcessError::Unknown {
                id,
                queue: queue.name().clone(),
            });
        }
        let handle = Handle::new(queue, id, Arc::default());
        if let Some(started) = found.started {
            handle.facts.learn(Look::Started(started));
        }
        if let (Some(completion), State::Ended | State::Dead) = (found.completion, found.state) {
            handle.facts.learn(Look::Ended(Box::new(completion)));
        }
        let work = found.work.unwrap_or(Work::Command(Vec::new()));
        let lineage = found.lineage;
        let task = Task {
            id,
            ..Task::of(work)
        };
        let name = lineage
            .as_ref()
            .map_or_else(|| task.label(), |lineage| lineage.name.clone());
        let daemon = lineage.is_some_and(|lineage| lineage.daemon);
        Ok(Self::known(handle, task, name, daemon))
    }

    /// A handle to what is known to be started.
    pub(super) fn known(handle: Handle, task: Task, name: String, daemon: bool) -> Self {
        Self {
            task,
            name,
            bond: if daemon { Bond::Daemon } else { Bond::Free },
            attended: false,
            echo: false,
            queue: handle.queue.name().clone(),
            start_timeout: START_TIMEOUT,
            phase: Phase::Started(handle),
        }
    }

    /// Waits until it has ended. In Python this is `Process.join`. A task that waits for its child lends its slot
    /// meanwhile.
    pub async fn join(&self) -> Result<()> {
        self.handle("join")?.end(None).await.map(drop)
    }

    /// Waits until it has ended, but no longer than this; answers whether it has. In Python this is
    /// `Process.join(timeout)`.
    pub async fn join_timeout(&self, timeout: Duration) -> Result<bool> {
        let deadline = Some(deadline_after(timeout));
        let ended = self.handle("join")?.end(deadline).await?;
        Ok(ended.is_some())
    }

    /// Whether it was started and has not ended. In Python this is `Process.is_alive`.
    ///
    /// Where the lease of its worker has ended it counts as lost. Its exit code then follows, once whoever serves the
    /// queue or waits for it has taken it back; a worker that was only cut off may still come back before.
    pub async fn is_alive(&self) -> Result<bool> {
        let Some(handle) = self.started()? else {
            return Ok(false);
        };
        if handle.ended().await?.is_some() {
            return Ok(false);
        }
        let found = handle.queue.find(handle.id).await?;
        Ok(!found.lost && !matches!(found.state, State::Ended | State::Dead | State::Unknown))
    }

    /// Its exit code: `None` until it has ended, 0, positive, or minus the signal that ended it. In Python this is
    /// `Process.exitcode`.
    pub async fn exitcode(&self) -> Result<Option<i32>> {
        Ok(self.completion().await?.as_ref().map(exitcode_of))
    }

    /// How it ended, with its output; `None` until it has.
    pub async fn completion(&self) -> Result<Option<Completion>> {
        match self.started()? {
            None => Ok(None),
            Some(handle) => Ok(handle.ended().await?.cloned()),
        }
    }

    /// Waits for its end, and answers what the handler returned. `task` is the one it was made of. In Python a
    /// `Process` has no result.
    pub async fn result<A: Serialize, R: DeserializeOwned>(
        &self,
        task: typed::Task<A, R>,
    ) -> Result<R> {
        let handle = self.handle("get the result of")?;
        let Some(completion) = handle.end(None).await? else {
            return Err(handle.unknown());
        };
        if completion.outcome != Outcome::Ok {
            return Err(ProcessError::Failed {
                name: self.name.clone(),
                exitcode: exitcode_of(completion),
                reason: completion.report.error.clone().unwrap_or_default(),
            });
        }
        task.result(completion)
            .map_err(|source| ProcessError::Result {
                name: self.name.clone(),
                source,
            })
    }

    /// Its id in the operating system of its host: `None` until it was started. In Python this is `Process.pid`.
    pub fn pid(&self) -> Result<Option<u32>> {
        Ok(self.started()?.and_then(|handle| handle.facts.pid()))
    }

    /// The name of its host: `None` until it was started.
    pub fn host(&self) -> Result<Option<&str>> {
        Ok(self.started()?.and_then(|handle| handle.facts.host()))
    }

    /// What it prints, from the beginning until it has ended. In Python a child prints on its parent's streams, and
    /// nobody else can read it.
    pub fn log(&self) -> Result<Log> {
        Ok(self.handle("read the output of")?.log())
    }

    /// Asks it to end (SIGTERM, and SIGKILL after its worker's grace, 5 s), and returns when its worker says that it
    /// has. In Python this is `Process.terminate`. Does nothing after its end.
    pub async fn terminate(&self) -> Result<()> {
        self.handle("terminate")?.stop(Signal::Terminate).await
    }

    /// Kills it (SIGKILL), and returns when its worker says that it is dead. In Python this is `Process.kill`. Does
    /// nothing after its end.
    pub async fn kill(&self) -> Result<()> {
        self.handle("kill")?.stop(Signal::Kill).await
    }

    /// Interrupts it (SIGINT, and SIGKILL after the grace), and returns when it has ended. In Python this is
    /// `Process.interrupt`. Does nothing after its end.
    pub async fn interrupt(&self) -> Result<()> {
        self.handle("interrupt")?.stop(Signal::Interrupt).await
    }

    /// Lets go of a process that has ended, or was never started; the handle is of no use then. In Python this is
    /// `Process.close`. Closing again does nothing.
    pub async fn close(&mut self) -> Result<()> {
        if let Phase::Started(handle) = &self.phase
            && handle.ended().await?.is_none()
        {
            return Err(ProcessError::StillRunning);
        }
        self.phase = Phase::Closed;
        Ok(())
    }

    fn started(&self) -> Result<Option<&Handle>> {
        match &self.phase {
            Phase::Initial => Ok(None),
            Phase::Started(handle) => Ok(Some(handle)),
            Phase::Closed => Err(ProcessError::Closed),
        }
    }

    fn handle(&self, doing: &'static str) -> Result<&Handle> {
        self.started()?.ok_or(ProcessError::NotStarted { doing })
    }
}

impl Handle {
    pub(super) fn new(queue: &TaskQueue, id: TaskId, facts: Arc<Facts>) -> Self {
        Self {
            queue: queue.clone(),
            id,
            facts,
            reader: None,
        }
    }

    pub(super) fn log(&self) -> Log {
        let log = self.queue.log(self.id).follow(true);
        match self.reader {
            Some(reader) => log.read_by(reader),
            None => log,
        }
    }

    /// How it ended, by a look; `None` while it lives.
    pub(super) async fn ended(&self) -> Result<Option<&Completion>> {
        if self.facts.ended.get().is_none() {
            let look = Box::pin(self.queue.look(self.id)).await?;
            self.learn(look)?;
        }
        Ok(self.facts.ended.get().map(Box::as_ref))
    }

    /// Waits for its end; `None` where the time is up before.
    pub(super) async fn end(&self, deadline: Option<Instant>) -> Result<Option<&Completion>> {
        if self.ended().await?.is_none() {
            let mut sight = Sight::open(&self.queue, self.id).await;
            let look = sight.wait(is_over, deadline, LOOK_EVERY).await?;
            self.learn(look)?;
        }
        let ended = self.facts.ended.get().map(Box::as_ref);
        if ended.is_some() {
            self.echoed().await;
        }
        Ok(ended)
    }

    /// Listens before it gives the order, so that the answer can't come too early.
    async fn stop(&self, signal: Signal) -> Result<()> {
        if self.ended().await?.is_some() {
            return Ok(());
        }
        let mut sight = Sight::open(&self.queue, self.id).await;
        self.queue.cancel(&[self.id], signal).await?;
        let look = sight.wait(is_over, None, LOOK_AFTER_KILL).await?;
        self.learn(look)
    }

    fn learn(&self, look: Look) -> Result<()> {
        if look == Look::Unknown {
            return Err(self.unknown());
        }
        self.facts.learn(look);
        Ok(())
    }

    fn unknown(&self) -> ProcessError {
        ProcessError::Unknown {
            id: self.id,
            queue: self.queue.name().clone(),
        }
    }
}

fn is_over(look: &Look) -> bool {
    matches!(look, Look::Ended(_) | Look::Unknown)
}

impl Facts {
    /// Keeps what a look told for good.
    pub(super) fn learn(&self, look: Look) {
        match look {
            Look::Started(started) => drop(self.started.set(started)),
            Look::Ended(completion) => drop(self.ended.set(completion)),
            Look::Waiting | Look::Unknown => {}
        }
    }

    fn pid(&self) -> Option<u32> {
        let started = self.started.get().map(|started: &Started| started.pid);
        started.or_else(|| self.ended.get()?.report.pid)
    }

    fn host(&self) -> Option<&str> {
        let started = self.started.get().map(|started| started.host.as_str());
        started.or_else(|| self.ended.get()?.report.host.as_deref())
    }
}
