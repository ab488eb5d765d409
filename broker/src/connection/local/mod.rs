//! The local broker: one private Redis or Valkey server for all processes of a user on this machine.
//!
//! The first process that needs it starts it, and the last one that leaves stops it. Queued tasks stay on
//! disk and are there next time. Four files in its directory decide everything, and the kernel releases
//! each lock when its holder dies, however it dies:
//!
//! | file | lock | means |
//! |---|---|---|
//! | `start.lock` | exclusive | this process is joining, leaving, stopping or wiping |
//! | `users.lock` | shared | this process uses the server |
//! | `server.lock` | exclusive, held by the server itself | a server is alive on these files |
//! | `server-version` | none | which server wrote the files last |
//!
//! Everything here blocks for milliseconds (a start takes about 20 ms, a big file up to a minute), so call
//! it through `spawn_blocking` in asynchronous code, and drop [`LocalBroker`] there as well.

mod binary;
mod directory;
mod error;
mod install;
mod lock;
mod manage;
mod poll;
mod server;
mod version;
mod wire;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use directory::Directory;
use lock::Held;

pub use error::LocalError;
pub use manage::LocalStatus;
pub use version::{ServerKind, ServerVersion};

/// Looks up an environment variable; a parameter, so that tests need not change their process.
type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The environment of this process. An empty variable counts as unset, as in the XDG specification.
fn process_env(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// A share in the user's local broker: its server runs at least until this is dropped.
///
/// If the server itself is killed, [`ensure_running`](Self::ensure_running) brings it back with its data.
#[derive(Debug)]
pub struct LocalBroker {
    directory: Directory,
    /// Counts this process as a user for as long as it lives.
    users: Held,
}

impl LocalBroker {
    /// The directory of the local broker `name` (`default` if `None`), which need not exist yet.
    ///
    /// `$PMQ_DATA_DIR` as it is, else `$XDG_STATE_HOME/pmq/<name>@<host>`, else
    /// `~/.local/state/pmq/<name>@<host>`. The host is part of the name because a home that several
    /// machines share must not get two servers on the same files.
    pub fn directory(name: Option<&str>) -> Result<PathBuf, LocalError> {
        directory::locate(name, &process_env)
    }

    /// Joins the local broker in `dir`; creates the directory and starts the server where needed.
    ///
    /// Returns when the server answers commands; waits up to 60 s while it loads its data.
    pub fn open(dir: &Path) -> Result<Self, LocalError> {
        Self::open_with(dir, &process_env)
    }

    fn open_with(dir: &Path, env: Env) -> Result<Self, LocalError> {
        let directory = Directory::create(dir, env)?;
        let start = Held::exclusive(&directory.start_lock())?;
        let users = Held::shared(&directory.users_lock())?;
        server::ensure(&directory, env)?;
        drop(start);
        Ok(Self { directory, users })
    }

    /// Starts the server again if it has died since [`open`](Self::open); does nothing if it is alive.
    pub fn ensure_running(&self) -> Result<(), LocalError> {
        let _start = Held::exclusive(&self.directory.start_lock())?;
        server::ensure(&self.directory, &process_env)
    }

    /// The Unix socket that the server listens on. Only this user can open it.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.directory.socket
    }

    /// The socket as a URL: `redis+unix://` and the path, percent-encoded where a URL needs it.
    #[must_use]
    pub fn url(&self) -> String {
        directory::url(&self.directory.socket)
    }

    /// What is in `dir` now. Starts nothing, creates nothing and does not wait.
    pub fn status(dir: &Path) -> Result<LocalStatus, LocalError> {
        manage::status(dir, &process_env)
    }

    /// Stops the server in `dir`; its data stays. Returns whether one was running.
    ///
    /// Fails with [`LocalError::Busy`] while processes use it, unless `force` is set.
    pub fn stop(dir: &Path, force: bool) -> Result<bool, LocalError> {
        manage::stop(dir, force, &process_env)
    }

    /// Stops the server in `dir` and removes its data: every task, result and lock in it.
    ///
    /// Touches only files that pmq or its server made there, and keeps the empty lock files, because
    /// another process may be waiting on them. Fails with [`LocalError::Busy`] as [`stop`](Self::stop) does.
    pub fn wipe(dir: &Path, force: bool) -> Result<(), LocalError> {
        manage::wipe(dir, force, &process_env)
    }

    fn leave(&self) -> Result<(), LocalError> {
        let _start = Held::exclusive(&self.directory.start_lock())?;
        self.users.release();
        if Held::try_exclusive(&self.directory.users_lock())?.is_some() {
            server::stop(&self.directory)?;
        }
        Ok(())
    }
}

impl Drop for LocalBroker {
    /// Leaves; the last user stops the server.
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            tracing::warn!(%error, "the local broker's server was left running");
        }
    }
}
