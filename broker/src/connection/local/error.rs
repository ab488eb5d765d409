//! What can go wrong with the local broker, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use super::ServerVersion;

/// Why the local broker could not be found, started, stopped or wiped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// No environment variable says where this user's state belongs.
    #[error(
        "none of PMQ_DATA_DIR, XDG_STATE_HOME and HOME is set; set PMQ_DATA_DIR to a directory of yours"
    )]
    NoHome,

    /// The broker's name cannot be part of a file name.
    #[error(
        "the local broker name {name:?} is empty or contains a slash; use letters, digits, '-' and '_'"
    )]
    InvalidName {
        /// The name as given.
        name: String,
    },

    /// The directory belongs to another user, who could read the tasks or replace the server's files.
    #[error("{} belongs to user {owner}, not to you; set PMQ_DATA_DIR to a directory of yours", dir.display())]
    NotOwned {
        /// The directory.
        dir: PathBuf,
        /// The numeric id of its owner.
        owner: u32,
    },

    /// Others can enter the directory, and it holds files that are not pmq's, so pmq does not close it itself.
    #[error(
        "{} is open to other users (mode {mode:03o}); close it with `chmod 700 {}`, or set PMQ_DATA_DIR to a directory of its own",
        dir.display(), dir.display()
    )]
    NotPrivate {
        /// The directory.
        dir: PathBuf,
        /// Its permission bits.
        mode: u32,
    },

    /// The socket's path is too long for the system, and there is no `XDG_RUNTIME_DIR` to put it into.
    #[error("the socket path {} is over {limit} bytes; set PMQ_DATA_DIR to a shorter path", path.display())]
    SocketPathTooLong {
        /// The path that was tried last.
        path: PathBuf,
        /// The most that fits, in bytes.
        limit: usize,
    },

    /// There is no server program on this machine.
    #[error(
        "no valkey-server or redis-server was found in PATH; install one ({install}), \
         or use a running one with `--redis URL`, or start a fleet with `docker compose up`"
    )]
    NoServer {
        /// The command that installs one here.
        install: String,
    },

    /// The server program did not tell its version.
    #[error("{} did not tell its version as a Redis or Valkey server does; set PMQ_SERVER_BIN to one that does", binary.display())]
    UnknownServer {
        /// The program.
        binary: PathBuf,
    },

    /// The server program could not be executed.
    #[error("cannot run {}; set PMQ_SERVER_BIN to a valkey-server or redis-server", binary.display())]
    Run {
        /// The program.
        binary: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// The server program is older than pmq supports.
    #[error("{} is {found}, but pmq needs 7.0 or newer; set PMQ_SERVER_BIN to a newer one, or use `--redis URL`", binary.display())]
    ServerTooOld {
        /// The program.
        binary: PathBuf,
        /// Its version.
        found: ServerVersion,
    },

    /// A server that this one cannot follow wrote the data.
    #[error(
        "the data in {} was written by {remembered}, which {} ({found}) cannot read; set PMQ_SERVER_BIN to {remembered} \
         or newer, or drop the data with `pmq local wipe`",
        dir.display(), binary.display()
    )]
    NewerData {
        /// The local broker's directory.
        dir: PathBuf,
        /// The program that was found.
        binary: PathBuf,
        /// Its version.
        found: ServerVersion,
        /// The version that wrote the data.
        remembered: ServerVersion,
    },

    /// The server ended instead of serving.
    #[error("the server exited while it started; {} ends with:\n{last_lines}", log.display())]
    Exited {
        /// Its log file.
        log: PathBuf,
        /// The end of its log.
        last_lines: String,
    },

    /// The server is alive but does not serve yet. It goes on loading; the next attempt finds it.
    #[error(
        "the server is not ready after {seconds} s; if {} says that it is loading, try again, \
         else end it with `kill $(cat {})`",
        log.display(), pid_file.display()
    )]
    NotReady {
        /// How long it was waited for.
        seconds: u64,
        /// Its log file.
        log: PathBuf,
        /// Where its process id is written.
        pid_file: PathBuf,
    },

    /// The server is alive but did not stop when told to.
    #[error("the server does not stop ({reason}); end it with `kill $(cat {})`", pid_file.display())]
    NotStopped {
        /// What it answered, or why it could not be asked.
        reason: String,
        /// Where its process id is written.
        pid_file: PathBuf,
    },

    /// Another process has been starting or stopping the server for too long.
    #[error("another process has held {} for {seconds} s{}; see whether it is suspended, or stop it", path.display(), processes(holders))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for.
        seconds: u64,
        /// Process ids, as far as the system tells.
        holders: Vec<u32>,
    },

    /// Processes use the server, so it was not stopped.
    #[error("the local broker in {} is in use{}; end them first, or use --force", dir.display(), processes(users))]
    Busy {
        /// The local broker's directory.
        dir: PathBuf,
        /// Process ids, as far as the system tells.
        users: Vec<u32>,
    },

    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl LocalError {
    /// For `map_err`: names the action and the file that an I/O error alone does not tell.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_path_buf(),
            source,
        }
    }
}

/// ` (processes 12, 34)`, or nothing if the system does not tell.
fn processes(ids: &[u32]) -> String {
    if ids.is_empty() {
        return String::new();
    }
    let list: Vec<String> = ids.iter().map(u32::to_string).collect();
    format!(" (process {})", list.join(", "))
}
