//! Starting and stopping the server. The caller holds `start.lock`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::binary::Binary;
use super::directory::{AOF_DIR, Directory};
use super::lock::{self, Held};
use super::wire::{self, Reply};
use super::{Env, LocalError, poll};
use crate::secret;

/// Loading a few gigabytes takes this long.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Stopping writes what is left of the append-only file, which a slow disk may hold up.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// Enough to see a reason, short enough for an error message.
const LOG_LINES: usize = 5;

/// What makes the server private, durable and safe against eviction.
///
/// The append-only file is read at each start: what it holds of tasks that ended long ago must not add up.
const SETTINGS: [[&str; 2]; 10] = [
    ["--port", "0"],
    ["--unixsocketperm", "600"],
    ["--daemonize", "no"],
    ["--appendonly", "yes"],
    ["--appendfsync", "everysec"],
    ["--appenddirname", AOF_DIR],
    ["--aof-use-rdb-preamble", "yes"],
    ["--auto-aof-rewrite-min-size", "4mb"],
    ["--save", ""],
    ["--maxmemory-policy", "noeviction"],
];

/// Makes sure that a server serves `directory`: adopts the one that is alive, or starts one.
pub(super) fn ensure(directory: &Directory, env: Env) -> Result<(), LocalError> {
    if is_alive(directory)? && becomes_ready(directory)? {
        return Ok(());
    }
    start(directory, env)?;
    if becomes_ready(directory)? {
        Ok(())
    } else {
        Err(exited(directory))
    }
}

/// Starts a server that holds `server.lock` for as long as it lives.
///
/// The lock travels as its standard input, the one file that a child is given on purpose. So the kernel
/// tells whether a server is alive, even if its socket was deleted or its starter was killed.
fn start(directory: &Directory, env: Env) -> Result<(), LocalError> {
    let binary = Binary::find(directory, env)?;
    binary.remember(directory)?;
    let server_lock = lock::inheritable(&directory.server_lock())?;
    let log = new_log(directory)?;
    let log_too = log
        .try_clone()
        .map_err(LocalError::io("open", &directory.log()))?;
    let mut server = Command::new(&binary.path);
    secret::hide_from(&mut server);
    let mut server = server
        .args(SETTINGS.as_flattened())
        .arg("--unixsocket")
        .arg(&directory.socket)
        .arg("--dir")
        .arg(&directory.path)
        .arg("--pidfile")
        .arg(directory.pid_file())
        .stdin(Stdio::from(server_lock))
        .stdout(log)
        .stderr(log_too)
        // Ctrl-C in the starter's terminal must not reach it.
        .process_group(0)
        .spawn()
        .map_err(|source| LocalError::Run {
            binary: binary.path.clone(),
            source,
        })?;
    // It may end while this process lives on. If no thread can be had, it stays a zombie then, no more.
    let _ = thread::Builder::new()
        .name("pmq-reaper".to_owned())
        .spawn(move || server.wait());
    Ok(())
}

/// The log of this start; the one of the start before is kept, so that a crash can be explained.
fn new_log(directory: &Directory) -> Result<File, LocalError> {
    let path = directory.log();
    match fs::rename(&path, directory.previous_log()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(LocalError::io("rename", &path)(error));
        }
        _ => {}
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(LocalError::io("create", &path))
}

/// Waits until the server serves commands; returns `false` if it ended instead.
fn becomes_ready(directory: &Directory) -> Result<bool, LocalError> {
    let outcome = poll::until(READY_LIMIT, || {
        if wire::is_ready(&directory.socket) {
            return Some(Ok(true));
        }
        is_alive(directory)
            .map(|alive| (!alive).then_some(false))
            .transpose()
    });
    outcome.unwrap_or_else(|| {
        Err(LocalError::NotReady {
            seconds: READY_LIMIT.as_secs(),
            log: directory.log(),
            pid_file: directory.pid_file(),
        })
    })
}

/// Stops the server if it is alive, and returns whether it was. No acknowledged write is lost.
///
/// `NOSAVE` is about snapshots only: the server writes and syncs its append-only file first in any case,
/// and with this word it obeys even while a script keeps it busy.
pub(super) fn stop(directory: &Directory) -> Result<bool, LocalError> {
    if !is_alive(directory)? {
        return Ok(false);
    }
    let not_stopped = |reason| LocalError::NotStopped {
        reason,
        pid_file: directory.pid_file(),
    };
    match wire::call(&directory.socket, "SHUTDOWN NOSAVE", STOP_LIMIT) {
        Ok(Reply::Error(reason) | Reply::Text(reason)) => return Err(not_stopped(reason)),
        Err(error) if !is_goodbye(&error) => return Err(not_stopped(error.to_string())),
        Err(_) => {}
    }
    match poll::until(STOP_LIMIT, || {
        is_alive(directory)
            .map(|alive| (!alive).then_some(true))
            .transpose()
    }) {
        Some(outcome) => outcome,
        None => Err(not_stopped("it closed its socket but lives on".to_owned())),
    }
}

/// A server that obeys answers nothing and closes the connection.
fn is_goodbye(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// Whether a server, or a child that still writes for it, is alive on these files.
fn is_alive(directory: &Directory) -> Result<bool, LocalError> {
    Ok(Held::try_exclusive(&directory.server_lock())?.is_none())
}

fn exited(directory: &Directory) -> LocalError {
    let log = directory.log();
    let text = fs::read(&log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last_lines = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    LocalError::Exited { log, last_lines }
}
