//! The guard: a small child of the worker that outlives it, to kill what it leaves behind.
//!
//! A worker that gets SIGKILL cannot clean up, and the kernel's parent-death signal follows threads,
//! not processes. So a shell waits for the end of a pipe that only the worker holds. The write end is
//! closed in every child at its `exec`, so the pipe ends only after a child that was just being
//! started carries the mark in its environment.

use std::collections::BTreeSet;
use std::env;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::process::Pid;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Notify;

use super::CommandError;

/// The variable that marks the processes of a worker; its value is the worker's incarnation.
pub const MARK: &str = "PMQ_WORKER";

/// Between two tries to start a guard anew.
const RETRY: Duration = Duration::from_millis(200);

/// A handle of a worker's guard; clones share it. When the last one is dropped, or the worker dies in
/// whatever way, the guard kills every process group and every marked process of this worker.
#[derive(Debug, Clone)]
pub struct Guard(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    worker: String,
    state: Mutex<State>,
    /// Told when the guard does not take its lines any more.
    lost: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    groups: BTreeSet<i32>,
    pipe: ChildStdin,
    /// Whether the guard at the pipe's other end does not take its lines any more.
    lost: bool,
}

impl Guard {
    /// Starts the guard of the worker with this incarnation. Needs a tokio runtime.
    pub fn start(worker: impl Into<String>) -> Result<Self, CommandError> {
        let worker = worker.into();
        let (child, pipe) = spawn(&worker)?;
        let lost = Arc::new(Notify::new());
        let state = Mutex::new(State {
            groups: BTreeSet::new(),
            pipe,
            lost: false,
        });
        let shared = Arc::new(Shared {
            worker,
            state,
            lost: lost.clone(),
        });
        tokio::spawn(keep(child, Arc::downgrade(&shared), lost));
        Ok(Self(shared))
    }

    /// The incarnation of the worker, which every child has in `PMQ_WORKER`.
    #[must_use]
    pub fn worker(&self) -> &str {
        &self.0.worker
    }

    pub(super) fn register(&self, leader: Pid) {
        let mut state = self.0.state();
        state.groups.insert(leader.as_raw_pid());
        self.0.tell(
            &mut state,
            &format!("+{leader}\n", leader = leader.as_raw_pid()),
        );
    }

    pub(super) fn forget(&self, leader: Pid) {
        let mut state = self.0.state();
        state.groups.remove(&leader.as_raw_pid());
        self.0.tell(
            &mut state,
            &format!("-{leader}\n", leader = leader.as_raw_pid()),
        );
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code between lock and unlock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to the guard, never waiting: one that left thousands of lines unread is stopped or dead.
    fn tell(&self, state: &mut State, lines: &str) {
        let told = rustix::io::write(&state.pipe, lines.as_bytes());
        if told != Ok(lines.len()) {
            state.lost = true;
            self.lost.notify_one();
        }
    }

    /// Starts a guard anew, and tells it of the groups that are running.
    fn restart(&self) -> Result<Child, CommandError> {
        let mut state = self.state();
        let (child, pipe) = spawn(&self.worker)?;
        (state.pipe, state.lost) = (pipe, false);
        let lines: Vec<String> = state
            .groups
            .iter()
            .map(|group| {
                format!(
                    "+{group}
"
                )
            })
            .collect();
        self.tell(&mut state, &lines.concat());
        Ok(child)
    }
}

/// Replaces the guard whenever it ends or is lost, for as long as the worker has a handle.
async fn keep(mut child: Child, shared: Weak<Shared>, lost: Arc<Notify>) {
    loop {
        tokio::select! {
            _ = child.wait() => {}
            // It must die before its pipe is closed, or it would take that for the worker's end.
            () = lost.notified() => {
                // A notice may be older than this guard.
                if shared.upgrade().is_some_and(|shared| !shared.state().lost) {
                    continue;
                }
                drop(child.kill().await);
            }
        }
        child = loop {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            match shared.restart() {
                Ok(child) => break child,
                Err(error) => tracing::warn!(%error, "could not start the guard anew"),
            }
            drop(shared);
            tokio::time::sleep(RETRY).await;
        };
        tracing::warn!("the guard of this worker had died, and was started anew");
    }
}

fn spawn(worker: &str) -> Result<(Child, ChildStdin), CommandError> {
    let mark = format!("{MARK}={worker}");
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", include_str!("guard.sh"), "pmq-guard", &mark])
        // The mark of an outer worker, whose task this worker may be, must not reach the guard: it
        // has work to do when the outer worker's guard has killed this worker.
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .current_dir("/")
        // A Ctrl-C or a hang-up in the terminal is for the worker's group.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command
        .spawn()
        .map_err(|source| CommandError::starting("/bin/sh".as_ref(), source))?;
    let pipe = child.stdin.take().expect("stdin is piped");
    Ok((child, pipe))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::Command as Process;

    use rustix::process::{Signal, kill_process};

    use super::super::testing::{eventually, guard, is_alive, pid_in, wait_until_dead};
    use super::super::{self as child, Stop};
    use super::*;

    /// Tells the helper below where to write the process ids of its commands.
    const DIRECTORY: &str = "PMQ_TEST_GUARD_DIRECTORY";

    fn guard_pid(guard: &Guard) -> Option<i32> {
        let mark = format!("\0{MARK}={}\0", guard.worker());
        std::fs::read_dir("/proc").unwrap().find_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            arguments.ends_with(&mark).then_some(pid)
        })
    }

    fn signal(pid: i32, signal: Signal) {
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Starts this test program again as a worker with commands, in the helper below.
    fn start_worker(directory: &Path) -> std::process::Child {
        Process::new(env::current_exe().unwrap())
            .args(["--exact", "--ignored", "child::guard::tests::worker"])
            .env(DIRECTORY, directory)
            // Nobody removes the private directories of a killed worker.
            .env("TMPDIR", directory)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    #[tokio::test]
    #[ignore = "is the worker process of other tests"]
    async fn worker() {
        let directory = env::var(DIRECTORY).expect("another test starts this one");
        let guard = guard();
        let run = |script: &str| {
            let script = script.replace('@', &directory);
            child::Command::new(["sh", "-c", &script]).run(&guard, Stop::new())
        };
        // The leader and a grandchild; a grandchild in a session of its own; one without the mark.
        let _ = tokio::join!(
            run("echo $$ >@/leader; sh -c 'echo $$ >@/grandchild; exec sleep 600'"),
            run("setsid sh -c 'echo $$ >@/session; exec sleep 600'"),
            run("exec env -i sh -c 'echo $$ >@/unmarked; exec sleep 600'"),
        );
    }

    #[test]
    fn a_killed_worker_takes_its_commands_and_their_children_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut worker = start_worker(directory.path());
        let pids = ["leader", "grandchild", "session", "unmarked"]
            .map(|name| pid_in(&directory.path().join(name)));
        assert!(pids.into_iter().all(is_alive));
        worker.kill().unwrap();
        worker.wait().unwrap();
        pids.into_iter().for_each(wait_until_dead);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_guard_ends_with_its_last_handle_and_not_by_a_signal() {
        let guard = guard();
        let pid = eventually("the guard", || guard_pid(&guard));
        // The shell ignores signals once it reads its input, which is when it has seen a command end.
        let seen = child::Command::new(["true"]).run(&guard, Stop::new()).await;
        seen.unwrap();
        eventually("the shell's trap", || {
            ignores(pid, Signal::TERM).then_some(())
        });
        for ignored in [Signal::TERM, Signal::INT, Signal::HUP] {
            signal(pid, ignored);
        }
        child::Command::new(["true"])
            .run(&guard, Stop::new())
            .await
            .unwrap();
        assert!(is_alive(pid));
        drop(guard);
        wait_until_dead(pid);
    }

    /// Whether a process ignores a signal, by the mask that the kernel shows.
    fn ignores(pid: i32, signal: Signal) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:"))
            .unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_dead_guard_is_replaced_and_knows_the_groups_that_run() {
        replace_guard(Signal::KILL);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stopped_guard_is_replaced_when_its_pipe_is_full() {
        replace_guard(Signal::STOP);
    }

    /// Puts a guard out of action, and lets its successor kill a group that the mark does not show.
    fn replace_guard(by: Signal) {
        let guard = guard();
        let unmarked = Process::new("sleep").arg("600").process_group(0).spawn();
        let mut unmarked = unmarked.unwrap();
        let leader = Pid::from_child(&unmarked);
        guard.register(leader);

        let first = eventually("the guard", || guard_pid(&guard));
        signal(first, by);
        if by == Signal::STOP {
            // Nobody reads the pipe, and 64 KiB of lines fill it.
            (0..20_000).for_each(|_| guard.register(leader));
        }
        wait_until_dead(first);
        eventually("the next guard", || guard_pid(&guard));

        let Guard(shared) = &guard;
        close_pipe(shared);
        wait_until_dead(leader.as_raw_pid());
        let exit = child::Exit::from(unmarked.wait().unwrap());
        assert_eq!(exit, child::Exit::Signal(Signal::KILL.as_raw()));
    }

    /// What the guard sees when the worker dies.
    fn close_pipe(shared: &Shared) {
        let (_other, pipe) = spawn("nobody").unwrap();
        shared.state().pipe = pipe;
    }
}
