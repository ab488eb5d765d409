//! The guard: a small child of the worker that outlives it, to kill what it leaves behind.
//!
//! A worker that gets SIGKILL cannot clean up, and the kernel's parent-death signal follows threads,
//! not processes. So a shell waits for the end of a pipe that only the worker holds. The write end is
//! closed in every child at its `exec`, so the pipe ends only after a child that was just being
//! started carries the mark in its environment.
//!
//! Which groups run stands in a file that the shell reads only then: to start a command wakes nobody.

use std::env;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::process::Pid;
use tokio::process::{Child, ChildStdin, Command};

use super::CommandError;

/// The variable that marks the processes of a worker; its value is the worker's incarnation.
pub const MARK: &str = "PMQ_WORKER";

/// The bytes of a record: a process id of at most ten digits, and a newline.
const RECORD: usize = 12;

/// Between two tries to start a guard anew.
const RETRY: Duration = Duration::from_millis(200);

/// A handle of a worker's guard; clones share it. When the last one is dropped, or the worker dies in
/// whatever way, the guard kills every process group and every marked process of this worker.
#[derive(Debug, Clone)]
pub struct Guard(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    worker: String,
    /// The groups that run, each in a record. It has no name, so it goes with its last reader.
    file: File,
    free: Mutex<Free>,
    /// Its end is the worker's end.
    pipe: Mutex<ChildStdin>,
}

/// The records of the file that name no group.
#[derive(Debug, Default)]
struct Free {
    numbers: Vec<u64>,
    /// How many records the file has.
    records: u64,
}

/// Where a group stands in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record(u64);

impl Guard {
    /// Starts the guard of the worker with this incarnation. Needs a tokio runtime.
    pub fn start(worker: impl Into<String>) -> Result<Self, CommandError> {
        let worker = worker.into();
        let file = tempfile::tempfile().map_err(list_failed)?;
        let (child, pipe) = spawn(&worker, &file)?;
        let shared = Arc::new(Shared {
            worker,
            file,
            free: Mutex::default(),
            pipe: Mutex::new(pipe),
        });
        tokio::spawn(keep(child, Arc::downgrade(&shared)));
        Ok(Self(shared))
    }

    /// The incarnation of the worker, which every child has in `PMQ_WORKER`.
    #[must_use]
    pub fn worker(&self) -> &str {
        &self.0.worker
    }

    pub(super) fn register(&self, leader: Pid) -> Record {
        let record = {
            let mut free = lock(&self.0.free);
            free.numbers.pop().unwrap_or_else(|| {
                free.records += 1;
                free.records - 1
            })
        };
        self.0.write(record, &leader.as_raw_pid().to_string());
        Record(record)
    }

    pub(super) fn forget(&self, Record(record): Record) {
        self.0.write(record, "");
        lock(&self.0.free).numbers.push(record);
    }
}

impl Shared {
    /// Writes one record. Without room for it, what the group leads is still found by its mark.
    fn write(&self, record: u64, group: &str) {
        let line = format!("{group:<width$}\n", width = RECORD - 1);
        if let Err(error) = self
            .file
            .write_all_at(line.as_bytes(), record * RECORD as u64)
        {
            tracing::warn!(%error, "could not tell the guard of a process group");
        }
    }

    /// Starts a guard anew; the file tells it of the groups that are running.
    fn restart(&self) -> Result<Child, CommandError> {
        let (child, pipe) = spawn(&self.worker, &self.file)?;
        *lock(&self.pipe) = pipe;
        Ok(child)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code between lock and unlock can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn list_failed(source: io::Error) -> CommandError {
    CommandError::doing("make the list of running process groups", source)
}

/// Replaces the guard whenever it ends, for as long as the worker has a handle.
async fn keep(mut child: Child, shared: Weak<Shared>) {
    loop {
        let _ = child.wait().await;
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

fn spawn(worker: &str, groups: &File) -> Result<(Child, ChildStdin), CommandError> {
    let groups = groups.try_clone().map_err(list_failed)?;
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
        .stdout(groups)
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
        let guard = guard();
        let [mut ended, mut running] = [unmarked(), unmarked()];
        let [first, second] =
            [&ended, &running].map(|child| guard.register(Pid::from_child(child)));
        guard.forget(first);
        let reused = guard.register(Pid::from_child(&running));
        assert_eq!(reused.0, first.0, "the file does not grow");
        guard.forget(second);

        let pid = eventually("the guard", || guard_pid(&guard));
        signal(pid, Signal::KILL);
        wait_until_dead(pid);
        eventually("the next guard", || guard_pid(&guard));
        close_pipe(&guard);

        wait_until_dead(Pid::from_child(&running).as_raw_pid());
        let exit = child::Exit::from(running.wait().unwrap());
        assert_eq!(exit, child::Exit::Signal(Signal::KILL.as_raw()));
        assert!(is_alive(Pid::from_child(&ended).as_raw_pid()));
        ended.kill().unwrap();
        ended.wait().unwrap();
    }

    /// A process group that the mark does not show.
    fn unmarked() -> std::process::Child {
        let sleep = Process::new("sleep").arg("600").process_group(0).spawn();
        sleep.unwrap()
    }

    /// What the guard sees when the worker dies.
    fn close_pipe(guard: &Guard) {
        let Guard(shared) = guard;
        let (_other, pipe) = spawn("nobody", &shared.file.try_clone().unwrap()).unwrap();
        *lock(&shared.pipe) = pipe;
    }
}
