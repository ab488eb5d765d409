//! One command, from its start to the end of its output.

use std::ffi::OsString;
use std::pin::{Pin, pin};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::Signal;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::capture::Capture;
use super::{CommandError, Ended, Exit, Guard, Program, Running, Stream, Why, until};

/// How a caller asks a child to stop: SIGTERM to its group, and SIGKILL when the grace has passed.
pub type Stop = CancellationToken;

/// A command to run once, to its end.
#[derive(Debug, Clone)]
pub struct Command {
    /// What to run, where, and with which environment.
    pub program: Program,
    /// What it reads from standard input; `None` is `/dev/null`.
    pub stdin: Option<Bytes>,
    /// How long it may run before it is terminated; `None` is forever.
    pub timeout: Option<Duration>,
    /// How long it has between SIGTERM and SIGKILL, and how long processes that it left behind may
    /// keep its output open. 5 s unless set.
    pub grace: Duration,
    /// How many bytes of each output stream are kept: the first half and the last. 1 MiB unless set.
    pub capture: usize,
    /// Cancelled to stop it with SIGINT in place of SIGTERM.
    pub interrupt: Stop,
    /// Cancelled to kill it at once.
    pub kill: Stop,
    /// Where its process id goes once it runs.
    pub pid: Option<mpsc::Sender<u32>>,
    /// Where output also goes as it comes. A full channel makes the command wait, as a full pipe does.
    pub live: Option<mpsc::Sender<(Stream, Bytes)>>,
}

impl Command {
    /// A command with the default limits, no input, and a private working directory.
    pub fn new(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            program: Program::new(argv),
            stdin: None,
            timeout: None,
            grace: Duration::from_secs(5),
            capture: 1024 * 1024,
            interrupt: Stop::new(),
            kill: Stop::new(),
            pid: None,
            live: None,
        }
    }

    /// Runs the command until it and its output have ended, its time is up, or `stop` is cancelled.
    ///
    /// It leads a process group of its own, and what is left of the group is killed in the end: also
    /// when the future is dropped, and by `guard` when this whole process is killed. Only what has left
    /// the group (`setsid`) may go on, as long as the worker does.
    pub async fn run(mut self, guard: &Guard, stop: Stop) -> Result<Ended, CommandError> {
        let input = self.stdin.take();
        let stdin = if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let (running, pipes) = self.program.start(stdin, guard)?;
        if let (Some(sender), Some(pid)) = (&self.pid, running.child.id()) {
            // Who does not listen any more does not want to know.
            let _ = sender.try_send(pid);
        }

        let mut stdout = self.capture(Stream::Stdout);
        let mut stderr = self.capture(Stream::Stderr);
        let (exit, why) = {
            let transfer = pin!(async {
                tokio::join!(
                    feed(pipes.stdin.zip(input)),
                    stdout.fill(pipes.stdout),
                    stderr.fill(pipes.stderr),
                );
            });
            self.attend(running, transfer, stop).await?
        };
        Ok(Ended {
            exit,
            stdout: stdout.finish(),
            stderr: stderr.finish(),
            why,
        })
    }

    fn capture(&self, stream: Stream) -> Capture {
        Capture::new(self.capture, self.live.clone().map(|live| (stream, live)))
    }

    /// Moves bytes through the pipes until the command has ended, and for the grace after that:
    /// something that it left in the background may hold them open for ever.
    async fn attend(
        &self,
        mut running: Running,
        mut transfer: Pin<&mut impl Future<Output = ()>>,
        stop: Stop,
    ) -> Result<(Exit, Why), CommandError> {
        let mut drained = false;
        let ended = {
            let mut supervised = pin!(self.supervise(&mut running, stop));
            loop {
                tokio::select! {
                    () = &mut transfer, if !drained => drained = true,
                    ended = &mut supervised => break ended?,
                }
            }
        };
        if !drained && timeout(self.grace, transfer).await.is_err() {
            tracing::debug!("a process left in the background kept the output open");
        }
        running.leave().await;
        Ok(ended)
    }

    /// Waits for the end of the command, and brings it about if need be.
    async fn supervise(
        &self,
        running: &mut Running,
        stop: Stop,
    ) -> Result<(Exit, Why), CommandError> {
        let failed = |source| CommandError::doing("wait for a process", source);
        let deadline = self
            .timeout
            .and_then(|timeout| Instant::now().checked_add(timeout));
        let (why, signal) = tokio::select! {
            biased;
            status = running.child.wait() => return Ok((status.map_err(failed)?.into(), Why::Finished)),
            () = self.kill.cancelled() => (Why::Stopped, Signal::KILL),
            () = self.interrupt.cancelled() => (Why::Stopped, Signal::INT),
            () = stop.cancelled() => (Why::Stopped, Signal::TERM),
            () = until(deadline) => (Why::TimedOut, Signal::TERM),
        };
        running.group.signal(signal);
        let ended = tokio::select! {
            status = running.end(self.grace) => Some(status),
            () = self.kill.cancelled() => None,
        };
        let status = match ended {
            Some(status) => status,
            None => running.end(Duration::ZERO).await,
        };
        Ok((status.map_err(failed)?.into(), why))
    }
}

/// Writes the whole input. A command that ends before it has read all of it is within its rights.
async fn feed(input: Option<(impl AsyncWrite + Unpin, Bytes)>) {
    let Some((mut pipe, bytes)) = input else {
        return;
    };
    if let Err(error) = pipe.write_all(&bytes).await {
        tracing::trace!(%error, "a command did not read all of its input");
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tokio::sync::mpsc;

    use super::super::testing::{guard, is_alive, pid_in, wait_until_dead};
    use super::super::{Captured, MARK};
    use super::*;

    fn sh(script: &str) -> Command {
        Command {
            grace: Duration::from_millis(200),
            ..Command::new(["sh", "-c", script])
        }
    }

    async fn run(command: Command) -> Ended {
        command.run(&guard(), Stop::new()).await.expect("sh starts")
    }

    async fn fails(command: Command) -> CommandError {
        command
            .run(&guard(), Stop::new())
            .await
            .expect_err("this cannot start")
    }

    #[tokio::test]
    async fn exit_and_both_streams_are_kept_byte_by_byte() {
        let ended = run(sh(r"printf 'a\377\000b'; printf 'oops\n' >&2; exit 7")).await;
        assert_eq!((ended.exit, ended.why), (Exit::Code(7), Why::Finished));
        assert_eq!(ended.stdout.into_bytes(), b"a\xff\0b");
        assert_eq!(ended.stderr.into_bytes(), b"oops\n");
        assert_eq!(run(sh("kill -USR1 $$")).await.exit, Exit::Signal(10));
    }

    #[tokio::test]
    async fn input_is_null_or_what_was_given() {
        assert_eq!(run(sh("cat; echo end")).await.stdout.head, b"end\n");
        let input = Bytes::from(vec![b'x'; 1 << 20]);
        let ended = run(Command {
            stdin: Some(input.clone()),
            ..sh("cat")
        })
        .await;
        assert_eq!(ended.stdout.into_bytes(), input);
        let ended = run(Command {
            stdin: Some(input),
            ..sh("exec true")
        })
        .await;
        assert_eq!(ended.exit, Exit::Code(0));
    }

    #[tokio::test]
    async fn a_private_directory_is_removed_afterwards() {
        let ended = run(sh("touch left-behind && pwd")).await;
        let path = PathBuf::from(String::from_utf8(ended.stdout.head).unwrap().trim_end());
        assert!(path.is_absolute() && path != std::env::current_dir().unwrap());
        let gone = move || (!path.exists()).then_some(());
        tokio::task::spawn_blocking(|| super::super::testing::eventually("the removal", gone))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn the_environment_is_added_to_or_replaced() {
        let mut command = sh("env");
        command.program.env = vec![("ADDED".into(), "1".into())];
        let with = String::from_utf8(run(command.clone()).await.stdout.head).unwrap();
        assert!(with.contains("ADDED=1\n") && with.contains("PATH=") && with.contains(MARK));
        command.program.argv[0] = "/bin/sh".into();
        command.program.clear_env = true;
        let without = String::from_utf8(run(command).await.stdout.head).unwrap();
        assert!(
            without.contains("ADDED=1\n") && without.contains(MARK) && !without.contains("CARGO")
        );
    }

    #[tokio::test]
    async fn a_gibibyte_of_output_keeps_both_ends() {
        let script = "echo first; head -c 1073741824 /dev/zero; echo last";
        let ended = run(Command {
            capture: 4096,
            ..sh(script)
        })
        .await;
        let Captured {
            head,
            tail,
            dropped,
        } = ended.stdout;
        assert!(head.starts_with(b"first\n\0") && tail.ends_with(b"\0last\n"));
        assert_eq!((head.len(), tail.len()), (2048, 2048));
        assert_eq!(dropped, (1 << 30) + 11 - 4096);
    }

    #[tokio::test]
    async fn live_output_comes_while_the_command_runs() {
        let (live, mut lines) = mpsc::channel(1);
        let stop = Stop::new();
        let command = Command {
            live: Some(live),
            ..sh("echo now; echo here >&2; exec sleep 600")
        };
        let guard = guard();
        let mut seen = Vec::new();
        let watch = async {
            seen.push(lines.recv().await.unwrap());
            seen.push(lines.recv().await.unwrap());
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(command.run(&guard, stop.clone()), watch);
        assert_eq!(ended.unwrap().stdout.head, b"now\n");
        assert!(seen.contains(&(Stream::Stdout, Bytes::from_static(b"now\n"))));
        assert!(seen.contains(&(Stream::Stderr, Bytes::from_static(b"here\n"))));
    }

    #[tokio::test]
    async fn time_out_terminates_and_what_ignores_that_is_killed() {
        let soon = Some(Duration::from_millis(100));
        let ended = run(Command {
            timeout: soon,
            ..sh("exec sleep 600")
        })
        .await;
        assert_eq!((ended.exit, ended.why), (Exit::Signal(15), Why::TimedOut));
        let deaf = "trap '' TERM; while :; do sleep 600; done";
        let ended = run(Command {
            timeout: soon,
            ..sh(deaf)
        })
        .await;
        assert_eq!((ended.exit, ended.why), (Exit::Signal(9), Why::TimedOut));
    }

    #[tokio::test]
    async fn stop_lets_the_command_end_in_its_own_way() {
        let (live, mut lines) = mpsc::channel(8);
        let stop = Stop::new();
        let script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do :; done";
        let command = Command {
            live: Some(live),
            grace: Duration::from_secs(30),
            ..sh(script)
        };
        let guard = guard();
        let when_ready = async {
            lines.recv().await.unwrap();
            stop.cancel();
            while lines.recv().await.is_some() {}
        };
        let (ended, ()) = tokio::join!(command.run(&guard, stop.clone()), when_ready);
        let ended = ended.unwrap();
        assert_eq!((ended.exit, ended.why), (Exit::Code(3), Why::Stopped));
        assert_eq!(ended.stdout.into_bytes(), b"ready\nbye\n");
    }

    #[tokio::test]
    async fn it_can_be_interrupted() {
        let (live, mut lines) = mpsc::channel(8);
        let script = "trap 'exit 4' INT; echo ready; while :; do :; done";
        let command = Command {
            live: Some(live),
            grace: Duration::from_secs(30),
            ..sh(script)
        };
        let (guard, interrupt) = (guard(), command.interrupt.clone());
        let when_ready = async {
            lines.recv().await.unwrap();
            interrupt.cancel();
            while lines.recv().await.is_some() {}
        };
        let (ended, ()) = tokio::join!(command.run(&guard, Stop::new()), when_ready);
        assert_eq!(ended.unwrap().exit, Exit::Code(4));
    }

    #[tokio::test]
    async fn a_child_left_in_the_background_neither_hangs_nor_outlives_the_command() {
        let ended = run(sh("sleep 600 & echo $!")).await;
        assert_eq!((ended.exit, ended.why), (Exit::Code(0), Why::Finished));
        let pid = String::from_utf8(ended.stdout.head)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        wait_until_dead(pid);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_dropped_run_kills_the_command() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let command = sh(&format!("echo $$ >{}; exec sleep 600", file.display()));
        let run = tokio::spawn(async move { command.run(&guard(), Stop::new()).await });
        let pid = pid_in(&file);
        assert!(is_alive(pid));
        run.abort();
        wait_until_dead(pid);
    }

    #[tokio::test]
    async fn failures_to_start_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join("plain");
        std::fs::write(&plain, "echo hi").unwrap();
        assert!(matches!(
            fails(Command::new(["pmq-no-such-program"])).await,
            CommandError::NotFound { .. }
        ));
        assert!(matches!(
            fails(Command::new([&plain])).await,
            CommandError::Denied { .. }
        ));
        assert!(matches!(
            fails(Command::new(["a\0b"])).await,
            CommandError::Invalid { .. }
        ));
        assert!(matches!(
            fails(Command::new([""; 0])).await,
            CommandError::Invalid { .. }
        ));
        let long = "x".repeat(8 << 20);
        assert!(matches!(
            fails(Command::new(["true", &long])).await,
            CommandError::Invalid { .. }
        ));
        let mut elsewhere = Command::new(["true"]);
        elsewhere.program.cwd = Some(plain);
        assert!(matches!(
            fails(elsewhere).await,
            CommandError::WorkingDirectory { .. }
        ));
    }
}
