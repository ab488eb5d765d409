//! The command as a user runs it: a real process in a clean environment, its output kept.

mod capture;
mod finished;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::scratch::Scratch;
use crate::wait::eventually_or;
use crate::watchdog::{self, Watched};
use capture::{Capture, both, complete_lines};
use rustix::process::Signal;

pub use finished::Finished;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// What a program leaves in the pipes when it ends is read within this time.
const PIPES_LIMIT: Duration = Duration::from_secs(10);
/// Passed on from the environment of the tests: where programs are, and which server they start.
const INHERITED: [&str; 2] = ["PATH", "PMQ_SERVER_BIN"];

/// A program, and the user who runs it: a home of its own, nothing of `PMQ_*` or `XDG_*` from outside.
///
/// A clone shares the home, and so the local broker in it, which ends with the last clone.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    redis: Option<String>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    timeout: Duration,
    home: Arc<Scratch>,
}

impl Program {
    /// The program at `path`, as in `Program::new(env!("CARGO_BIN_EXE_pmq-under-test"))`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            redis: None,
            environment: Vec::new(),
            directory: None,
            timeout: DEFAULT_TIMEOUT,
            home: Arc::default(),
        }
    }

    /// Puts `--redis URL` before the arguments of every run.
    #[must_use]
    pub fn redis(mut self, url: impl Into<String>) -> Self {
        self.redis = Some(url.into());
        self
    }

    /// Sets one more variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Where it runs [default: its home].
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// After how long it is killed and the test fails [default: 60 s].
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The home directory, which is also `TMPDIR` and holds what `XDG_*` name.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs it to its end, with nothing on standard input.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Finished {
        self.spawn(arguments).wait()
    }

    /// Runs it to its end, with `input` on standard input.
    pub fn feed<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: &[u8],
    ) -> Finished {
        let (running, mut stdin) = self.spawn_with_stdin(arguments);
        thread::scope(|scope| {
            // A program that does not read all of it ends the pipe, which is its right. If the wait fails, the
            // program is killed as `running` unwinds, and the writer ends too.
            scope.spawn(move || stdin.write_all(input));
            running.wait()
        })
    }

    /// Starts it in the background, with nothing on standard input.
    #[must_use]
    pub fn spawn<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Running {
        self.spawn_with_stdin(arguments).0
    }

    /// Starts it in the background; its input ends when the second value is dropped.
    #[must_use]
    pub fn spawn_with_stdin<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> (Running, ChildStdin) {
        let mut command = self.command();
        command.args(arguments);
        let mut process = Watched::start(&mut command);
        let stdin = process.take_stdin();
        let stdout = Capture::of(process.take_stdout());
        let stderr = Capture::of(process.take_stderr());
        let running = Running {
            process,
            stdout,
            stderr,
            shown: shown(&command),
            timeout: self.timeout,
            _home: Arc::clone(&self.home),
        };
        (running, stdin)
    }

    fn command(&self) -> Command {
        let mut command = watchdog::command(&self.path);
        command
            .current_dir(self.directory.as_deref().unwrap_or(self.home()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_clear()
            .envs(
                INHERITED
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .envs(["HOME", "TMPDIR", "XDG_RUNTIME_DIR"].map(|name| (name, self.home())))
            .envs(["CACHE", "CONFIG", "DATA", "STATE"].map(|kind| {
                let directory = self.home.join(kind.to_lowercase());
                (format!("XDG_{kind}_HOME"), directory)
            }))
            .env("LANG", "C.UTF-8")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(url) = &self.redis {
            command.args(["--redis", url]);
        }
        command
    }
}

/// The program and its arguments, without the shell that becomes it.
fn shown(command: &Command) -> String {
    let words: Vec<_> = command
        .get_args()
        .skip(3)
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}

/// A program in the background; drop kills it and its process group.
#[derive(Debug)]
pub struct Running {
    process: Watched,
    stdout: Capture,
    stderr: Capture,
    shown: String,
    timeout: Duration,
    /// Dropped after the process, which lives in it.
    _home: Arc<Scratch>,
}

impl Running {
    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Kills the process with SIGKILL, and not its group: what it started must see to its own end. Returns when
    /// it is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it with SIGSTOP and returns when it stands.
    pub fn stop(&self) {
        self.process.stop(Signal::STOP);
    }

    /// Lets a stopped one go on.
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Asks it to end, with SIGTERM.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Tells it that its terminal is gone, with SIGHUP.
    pub fn hang_up(&self) {
        self.process.signal(Signal::HUP);
    }

    /// Asks it to stand, with SIGTSTP, and returns when it does.
    pub fn suspend(&self) {
        self.process.stop(Signal::TSTP);
    }

    /// Sends SIGINT to it and its process group, as Ctrl-C in a terminal does.
    pub fn interrupt(&self) {
        self.process.signal_group(Signal::INT);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// The complete lines on standard output so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        complete_lines(&self.stdout.text())
    }

    /// The complete lines on standard error so far.
    #[must_use]
    pub fn error_lines(&self) -> Vec<String> {
        complete_lines(&self.stderr.text())
    }

    /// Waits until a line of either stream contains `text`, and returns the first such line.
    #[must_use]
    pub fn wait_for_line(&self, text: &str) -> String {
        let lines = || self.lines().into_iter().chain(self.error_lines());
        eventually_or(
            &format!("{:?} says {text:?}", self.shown),
            self.timeout,
            || lines().find(|line| line.contains(text)),
            || self.output(),
        )
    }

    /// Waits until it ends; kills it and fails when the timeout has passed.
    pub fn wait(mut self) -> Finished {
        let (process, stdout, stderr) = (&mut self.process, &self.stdout, &self.stderr);
        let status = eventually_or(
            &format!("{:?} ends", self.shown),
            self.timeout,
            || process.ended(),
            || both(&stdout.text(), &stderr.text()),
        );
        // A daemon that keeps the pipes would make `$(pmq ...)` in a shell hang.
        eventually_or(
            &format!(
                "nobody holds the output of {:?}, which has ended",
                self.shown
            ),
            PIPES_LIMIT,
            || (stdout.is_complete() && stderr.is_complete()).then_some(()),
            || both(&stdout.text(), &stderr.text()),
        );
        Finished {
            status,
            stdout: self.stdout.bytes(),
            stderr: self.stderr.bytes(),
            shown: self.shown.clone(),
        }
    }

    fn output(&self) -> String {
        both(&self.stdout.text(), &self.stderr.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually;

    fn sh() -> Program {
        Program::new("/bin/sh")
    }

    #[test]
    fn keeps_output_exit_code_and_arguments() {
        let ended = Program::new("/bin/echo")
            .redis("redis+unix:///s")
            .run(["a b", "c"])
            .expect_code(0);
        assert_eq!(ended.text(), "--redis redis+unix:///s a b c\n");
        let ended = sh().run(["-c", "echo '{\"n\": 1}'; echo oops >&2; exit 75"]);
        assert_eq!(
            (
                ended.code(),
                ended.json()[0]["n"].as_i64(),
                ended.error_text().as_str()
            ),
            (75, Some(1), "oops\n")
        );
    }

    #[test]
    fn feeds_more_than_a_pipe_holds() {
        let input = vec![b'x'; 1 << 20];
        let ended = Program::new("/bin/cat")
            .feed(std::iter::empty::<&str>(), &input)
            .expect_code(0);
        assert!(ended.stdout == input);
        assert!(sh().feed(["-c", "exit 3"], &input).code() == 3);
    }

    #[test]
    fn the_environment_is_clean_and_lies_in_the_home() {
        let program = Program::new("/usr/bin/env").env("PMQ_QUEUE", "q");
        let lines = program.run(std::iter::empty::<&str>()).lines();
        assert!(lines.contains(&"PMQ_QUEUE=q".to_owned()));
        let home = program.home().to_str().unwrap();
        for line in lines {
            let (name, value) = line.split_once('=').unwrap();
            let known = INHERITED.contains(&name) || ["LANG", "PMQ_QUEUE"].contains(&name);
            // Some shells add `_`, which names the program.
            assert!(known || name == "_" || value.starts_with(home), "{line}");
        }
    }

    #[test]
    fn signals_reach_a_program_in_the_background() {
        let script = "trap 'echo terminated; exit 4' TERM; echo ready; while :; do read -r _ && echo line; done";
        let (running, mut stdin) = sh().spawn_with_stdin(["-c", script]);
        assert_eq!(running.wait_for_line("ready"), "ready");
        running.stop();
        stdin.write_all(b"more\n").unwrap();
        assert_eq!(running.lines(), ["ready"]);
        running.resume();
        let _ = running.wait_for_line("line");
        running.terminate();
        drop(stdin);
        let ended = running.wait().expect_code(4);
        assert_eq!(ended.lines(), ["ready", "line", "terminated"]);
    }

    #[test]
    fn a_killed_program_shows_its_signal() {
        let mut running = sh().spawn(["-c", "echo ready; exec sleep 600"]);
        let _ = running.wait_for_line("ready");
        running.kill();
        assert!(!running.is_running());
        assert_eq!(running.wait().code(), 137);
    }

    #[test]
    fn an_interrupt_reaches_the_group() {
        // The shell runs its trap once its child is gone, and nothing but the signal ends that.
        let child = "echo ready; exec sleep 600";
        let running = sh().spawn(["-c", "trap 'exit 5' INT; sh -c \"$0\"", child]);
        let _ = running.wait_for_line("ready");
        running.interrupt();
        assert_eq!(running.wait().code(), 5);
    }

    #[test]
    #[should_panic(expected = "--- stdout\nbusy")]
    fn a_program_that_hangs_is_killed_with_its_output_shown() {
        let hasty = sh().timeout(Duration::from_millis(300));
        let _ = hasty.run(["-c", "echo busy; exec sleep 600"]);
    }

    #[test]
    #[should_panic(expected = "exited with 1, not 0")]
    fn an_unexpected_exit_code_fails() {
        let _ = sh().run(["-c", "exit 1"]).expect_code(0);
    }

    #[test]
    fn the_home_goes_with_the_last_user() {
        let program = sh();
        let home = program.home().to_owned();
        let running = program.clone().spawn(["-c", "exec sleep 600"]);
        drop(program);
        assert!(home.exists());
        drop(running);
        eventually("the home is removed", Duration::from_secs(5), || {
            (!home.exists()).then_some(())
        });
    }
}
