//! No child outlives the tests: a small shell notices the end of this process and kills what it left behind.
//!
//! Destructors do not run in a process that is killed, or for a `static`. The watchdog holds the reading end
//! of a pipe whose writing end is ours alone, so the kernel tells it in every case.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};

static WATCHDOG: LazyLock<Watchdog> = LazyLock::new(|| {
    Watchdog::start().unwrap_or_else(|error| panic!("could not start the watchdog: {error}"))
});

/// The longest directory that leaves room for a socket's name: the kernel allows about 100 bytes in all.
const LONGEST_ROOT: usize = 60;

/// Reads `+ GROUP` and `- GROUP`; at end of file kills the groups that are left, then whoever works below the
/// root (a server that detached itself on purpose), and removes the root.
const WATCH: &str = r#"
    trap '' HUP INT TERM
    root=$1 groups=' '
    while read -r act group; do
        case $act in
        +) groups="$groups$group " ;;
        -) case $groups in *" $group "*) groups="${groups%% $group *} ${groups#* $group }" ;; esac ;;
        esac
    done
    for group in $groups; do kill -s KILL -- "-$group"; done
    for process in /proc/[0-9]*; do
        case $(readlink "$process/cwd") in "$root"/*) kill -s KILL "${process#/proc/}" ;; esac
    done
    rm -rf -- "$root" || { sleep 1; rm -rf -- "$root"; }
"#;

/// Becomes the program once its first line says that the watchdog knows of it; without that line it ends.
const BECOME: &str = r#"read -r _ && exec "$@""#;

struct Watchdog {
    root: PathBuf,
    orders: Mutex<ChildStdin>,
}

impl Watchdog {
    fn start() -> io::Result<Self> {
        let mut parent = std::env::temp_dir();
        if parent.as_os_str().len() > LONGEST_ROOT {
            parent = "/tmp".into();
        }
        let root = tempfile::Builder::new()
            .prefix("pmqt")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)?
            .keep()
            .canonicalize()?;
        let mut shell = Command::new("/bin/sh")
            .args(["-c", WATCH, "watchdog"])
            .arg(&root)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let orders = shell.stdin.take().expect("stdin is piped");
        Ok(Self {
            root,
            orders: Mutex::new(orders),
        })
    }

    fn order(&self, act: char, group: Pid) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders
            .write_all(format!("{act} {}\n", group.as_raw_nonzero()).as_bytes())
            .unwrap_or_else(|error| panic!("the watchdog is gone: {error}"));
    }
}

/// The directory of this test process, which the watchdog removes when the process ends.
pub(crate) fn root() -> &'static Path {
    &WATCHDOG.root
}

/// A command for [`Watched::start`] that runs `program`; arguments may be added.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", BECOME, "sh"]).arg(program);
    command
}

/// A child in a process group of its own, killed on drop, and by the watchdog if this process dies first.
#[derive(Debug)]
pub(crate) struct Watched {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Watched {
    /// Starts what [`command`] made; its standard input is a pipe.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("could not start {command:?}: {error}"));
        WATCHDOG.order('+', Pid::from_child(&child));
        let stdin = child.stdin.as_mut().expect("stdin is piped");
        stdin
            .write_all(b"go\n")
            .unwrap_or_else(|error| panic!("could not start {command:?}: {error}"));
        Self { child, ended: None }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The writing end of its standard input, once.
    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.child
            .stdin
            .take()
            .expect("stdin is piped, and taken once")
    }

    /// The reading end of its standard output, once, where the command asked for a pipe.
    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.child
            .stdout
            .take()
            .expect("stdout is piped, and taken once")
    }

    /// The reading end of its standard error, once, where the command asked for a pipe.
    pub(crate) fn take_stderr(&mut self) -> ChildStderr {
        self.child
            .stderr
            .take()
            .expect("stderr is piped, and taken once")
    }

    /// Sends `signal` to the child and all of its process group; does nothing once its end has been seen.
    pub(crate) fn signal_group(&self, signal: Signal) {
        if self.ended.is_none() {
            let _ = kill_process_group(Pid::from_child(&self.child), signal);
        }
    }

    /// Sends `signal` to the child, not to its group; does nothing once its end has been seen.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            // An error means that it has just ended, which the caller finds out by waiting.
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// Sends SIGSTOP or SIGTSTP, and returns when the child has stopped or ended.
    pub(crate) fn stop(&self, signal: Signal) {
        self.signal(signal);
        if self.ended.is_none() {
            let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            waitid(WaitId::Pid(Pid::from_child(&self.child)), stopped)
                .expect("a child can be waited for");
        }
    }

    /// How the child ended, or `None` while it runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            let status = self.child.try_wait().expect("a child can be waited for");
            self.note(status);
        }
        self.ended
    }

    /// Kills the child and reaps it.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        if self.ended.is_none() {
            let status = self.child.wait().expect("a child can be waited for");
            self.note(Some(status));
        }
    }

    fn note(&mut self, status: Option<ExitStatus>) {
        self.ended = status;
        if status.is_some() {
            WATCHDOG.order('-', Pid::from_child(&self.child));
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.signal_group(Signal::KILL);
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RedisServer, eventually, eventually_or};
    use std::io::{BufRead, BufReader, Read};
    use std::net::TcpStream;
    use std::time::Duration;

    /// Not a test of its own: the process that the next test kills.
    #[test]
    #[ignore = "run by a_killed_process_leaves_nothing_behind"]
    fn start_servers_and_hang() {
        let server = RedisServer::builder().tcp(true).start();
        let mut detached = command("/bin/sh");
        detached
            .args(["-c", "sleep 600 & wait"])
            .current_dir(server.directory());
        let detached = Watched::start(&mut detached);
        println!(
            "\nstarted {} {} {}",
            server.port().unwrap(),
            detached.pid(),
            root().display()
        );
        let _ = io::stdin().read(&mut [0]);
    }

    #[test]
    fn a_killed_process_leaves_nothing_behind() {
        let mut doomed = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "watchdog::tests::start_servers_and_hang"])
            .args(["--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let started = BufReader::new(doomed.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap)
            .find_map(|line| line.strip_prefix("started ").map(str::to_owned))
            .expect("the process says what it started");
        let words: Vec<&str> = started.split(' ').collect();
        let address = format!("127.0.0.1:{}", words[0]);
        TcpStream::connect(&address).expect("the server is up");

        doomed.kill().unwrap();
        doomed.wait().unwrap();

        let limit = Duration::from_secs(20);
        eventually_or(
            "the directory is removed",
            limit,
            || (!Path::new(words[2]).exists()).then_some(()),
            || started.clone(),
        );
        eventually("the server is gone", limit, || {
            TcpStream::connect(&address).err()
        });
        eventually("the group is gone", limit, || {
            is_dead(words[1]).then_some(())
        });
    }

    /// A zombie counts as dead: who reaps an orphan, and when, is not ours to say.
    fn is_dead(pid: &str) -> bool {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
            return true;
        };
        status.contains("State:\tZ")
    }

    #[test]
    fn a_dropped_child_takes_its_group_along() {
        let mut shell = Watched::start(
            command("/bin/sh")
                .args(["-c", "sleep 600 & echo $!; wait"])
                .stdout(Stdio::piped()),
        );
        let mut grandchild = String::new();
        BufReader::new(shell.take_stdout())
            .read_line(&mut grandchild)
            .unwrap();
        drop(shell);
        eventually("the grandchild is gone", Duration::from_secs(5), || {
            is_dead(grandchild.trim()).then_some(())
        });
    }
}
