//! A command in the foreground: on this process's own streams, and gone when this process is.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::time::Duration;

use pmq_broker::secret;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::group::Group;
use super::{CommandError, Exit, Guard, MARK};

/// A running command that has this process's directory, environment, standard input and output.
///
/// It leads a process group of its own, which is killed when this is dropped, and by the guard when this process dies. Only
/// where standard input is a terminal it stays in this process's group, or it could not read from there: then the
/// terminal sends both of them SIGINT and SIGQUIT.
#[derive(Debug)]
pub struct Attached {
    child: Child,
    leader: Pid,
    group: Option<Group>,
}

impl Attached {
    /// Starts a command with this process's environment but the secrets in it, and these variables added. Needs a tokio runtime.
    pub fn start(
        argv: &[OsString],
        env: &[(&str, OsString)],
        guard: &Guard,
    ) -> Result<Self, CommandError> {
        let Some((program, arguments)) = argv.split_first() else {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "no program was named");
            return Err(CommandError::starting(OsStr::new(""), source));
        };
        let shares_group = io::stdin().is_terminal();
        let mut command = Command::new(program);
        secret::hide_from(command.as_std_mut());
        command
            .args(arguments)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .env(MARK, guard.worker())
            .kill_on_drop(true);
        if !shares_group {
            command.process_group(0);
        }
        let child = command
            .spawn()
            .map_err(|source| CommandError::starting(program, source))?;
        let Some(leader) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) else {
            let source = io::Error::other("it has no process id");
            return Err(CommandError::doing("start a process", source));
        };
        Ok(Self {
            group: (!shares_group).then(|| Group::new(leader, guard)),
            child,
            leader,
        })
    }

    /// Passes on a signal of this number that this process got, unless the terminal has sent it to both.
    pub fn pass_on(&self, signal: i32) {
        let Some(signal) = Signal::from_named_raw(signal) else {
            return;
        };
        let from_terminal = [Signal::INT, Signal::QUIT].contains(&signal);
        if self.group.is_some() || !from_terminal {
            self.signal(signal);
        }
    }

    /// Whether the terminal's signals reach it as they reach this process.
    #[must_use]
    pub fn hears_terminal(&self) -> bool {
        self.group.is_none()
    }

    /// Stops it, whatever it does with SIGTSTP.
    pub fn suspend(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`suspend`](Self::suspend).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until it ends by itself. Loses nothing when dropped.
    pub async fn wait(&mut self) -> Result<Exit, CommandError> {
        let failed = |source| CommandError::doing("wait for a process", source);
        Ok(self.child.wait().await.map_err(failed)?.into())
    }

    /// Ends it: SIGTERM, and SIGKILL where it has not ended after `grace`. One that is stopped does nothing else before.
    pub async fn end(&mut self, grace: Duration) -> Result<Exit, CommandError> {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
        if let Ok(ended) = timeout(grace, self.wait()).await {
            return ended;
        }
        self.signal(Signal::KILL);
        self.wait().await
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = &self.group {
            group.signal(signal);
        } else if self.child.id().is_some()
            && let Err(error) = kill_process(self.leader, signal)
        {
            tracing::trace!(?signal, %error, "no process to signal");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{guard, wait_until_dead};
    use super::*;

    fn sh(script: &str) -> Vec<OsString> {
        ["sh", "-c", script].map(OsString::from).into()
    }

    #[tokio::test]
    async fn it_ends_by_itself_or_by_a_signal_that_is_passed_on() {
        let guard = guard();
        let env = [("ANSWER", OsString::from("42"))];
        let mut quick = Attached::start(&sh("exit $ANSWER"), &env, &guard).unwrap();
        assert_eq!(quick.wait().await.unwrap(), Exit::Code(42));

        let mut slow = Attached::start(&sh("exec sleep 600"), &[], &guard).unwrap();
        slow.pass_on(Signal::USR1.as_raw());
        assert_eq!(
            slow.wait().await.unwrap(),
            Exit::Signal(Signal::USR1.as_raw())
        );
    }

    #[tokio::test]
    async fn what_ignores_the_order_to_end_is_killed() {
        let guard = guard();
        let deaf = sh("trap '' TERM; while :; do sleep 600; done");
        let mut deaf = Attached::start(&deaf, &[], &guard).unwrap();
        let ended = deaf.end(Duration::from_millis(300)).await.unwrap();
        assert!(matches!(ended, Exit::Signal(_)));
    }

    #[tokio::test]
    async fn it_does_not_outlive_its_handle() {
        let command = Attached::start(&sh("exec sleep 600"), &[], &guard()).unwrap();
        let pid = command.leader.as_raw_pid();
        drop(command);
        wait_until_dead(pid);
    }
}
