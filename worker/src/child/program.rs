//! What to start, where, and with which environment: the part that commands and runners share.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use pmq_broker::{lending, secret};
use rustix::process::{Pid, Signal};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::directory::Directory;
use super::group::Group;
use super::{CommandError, Guard, MARK};

/// A program, its arguments and its surroundings. There is no shell in between.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// The program, then its arguments. A name without a slash is looked up in `PATH`.
    pub argv: Vec<OsString>,
    /// The directory to run in; `None` makes a private one (0700, under `TMPDIR`) and removes it afterwards.
    pub cwd: Option<PathBuf>,
    /// Variables that are set besides the worker's own, of which it does not see the secrets.
    pub env: Vec<(OsString, OsString)>,
    /// Whether the program sees only `env` and the guard's mark, and not the worker's environment.
    pub clear_env: bool,
}

/// A started program. Dropping it kills the group, then removes the private directory.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) group: Group,
    directory: Directory,
}

impl Running {
    /// Kills what is left of the group, and waits until the private directory is gone.
    pub(crate) async fn leave(self) {
        drop((self.child, self.group));
        self.directory.leave().await;
    }
}

/// The worker's ends of a program's pipes.
#[derive(Debug)]
pub(crate) struct Pipes {
    /// Only where standard input was asked to be a pipe.
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

impl Running {
    /// Waits for the leader to end by itself, and kills the group when `patience` has passed.
    pub(crate) async fn end(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        if let Ok(status) = timeout(patience, self.child.wait()).await {
            return status;
        }
        self.group.signal(Signal::KILL);
        self.child.wait().await
    }
}

impl Program {
    /// A program with the worker's environment and a private working directory.
    pub fn new(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Starts the program as the leader of a process group that `guard` knows; its output is piped.
    pub(crate) fn start(
        &self,
        stdin: Stdio,
        guard: &Guard,
    ) -> Result<(Running, Pipes), CommandError> {
        let Some((program, arguments)) = self.argv.split_first() else {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "no program was named");
            return Err(CommandError::starting(OsStr::new(""), source));
        };
        let directory = Directory::enter(self.cwd.clone())?;
        let mut command = Command::new(program);
        secret::hide_from(command.as_std_mut());
        if self.clear_env {
            command.env_clear();
        }
        command
            .args(arguments)
            // Where this worker is a command itself, what it runs has slots of its own.
            .env_remove(lending::SOCKET)
            .env_remove(lending::TOKEN)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env(MARK, guard.worker())
            .current_dir(directory.path())
            .process_group(0)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| match directory.check() {
            Ok(()) => CommandError::starting(program, source),
            Err(unusable) => unusable,
        })?;
        let leader = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let leader = leader.expect("a child that nobody has waited for has an id");
        let pipes = Pipes {
            stdin: child.stdin.take(),
            stdout: child.stdout.take().expect("standard output is piped"),
            stderr: child.stderr.take().expect("standard error is piped"),
        };
        let group = Group::new(leader, guard);
        Ok((
            Running {
                child,
                group,
                directory,
            },
            pipes,
        ))
    }
}
