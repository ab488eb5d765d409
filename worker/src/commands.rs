//! Which commands a worker runs, and how.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use pmq_broker::task::Details;
use pmq_broker::{Name, TaskId};

use crate::child::{Command, CommandError, Program};

/// What a worker's owner allows.
#[derive(Clone, Debug)]
pub struct Commands {
    /// Whether tasks may bring their own argv. Off unless the owner says so, as it lets producers run anything.
    pub allowed: bool,
    /// Time between SIGTERM and SIGKILL; 5 s unless set.
    pub grace: Duration,
    /// Bytes of standard output, and of standard error, that are kept; 1 MiB unless set.
    pub capture: usize,
}

impl Default for Commands {
    fn default() -> Self {
        Self {
            allowed: false,
            grace: Duration::from_secs(5),
            capture: 1 << 20,
        }
    }
}

/// What a command is told about its run.
pub(crate) struct Surroundings<'a> {
    pub(crate) id: TaskId,
    pub(crate) attempt: u16,
    pub(crate) queue: &'a Name,
    pub(crate) slot: usize,
}

impl Commands {
    /// The command of a task, in its surroundings.
    pub(crate) fn prepare(
        &self,
        argv: Vec<Vec<u8>>,
        details: &Details,
        around: &Surroundings<'_>,
    ) -> Command {
        let mut program = Program::new(argv.into_iter().map(OsString::from_vec));
        program.cwd = (!details.cwd.is_empty()).then(|| details.cwd.clone().into());
        program.env = details
            .env
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        program.env.extend([
            ("PMQ_TASK_ID".into(), around.id.to_string().into()),
            ("PMQ_ATTEMPT".into(), around.attempt.to_string().into()),
            ("PMQ_QUEUE".into(), around.queue.as_str().into()),
            ("PMQ_SLOT".into(), around.slot.to_string().into()),
        ]);
        if let Some(lineage) = &details.process {
            program.env.extend(lineage.variables());
        }
        let mut command = Command::new(Vec::<OsString>::new());
        command.program = program;
        command.grace = self.grace;
        command.capture = self.capture;
        command.timeout =
            (details.timeout_ms > 0).then(|| Duration::from_millis(details.timeout_ms));
        command
    }
}

/// Whether a command that did not start is the worker's trouble, which must use up no attempt.
pub(crate) fn is_workers_trouble(error: &CommandError) -> bool {
    error.exit_code().is_none()
}
