//! `pmq local status`, `stop` and `wipe`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::directory::{AOF_DIR, Directory};
use super::lock::{self, Held};
use super::{Env, LocalError, ServerVersion, binary, server, wire};

/// The state of a local broker at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalStatus {
    /// Its directory, absolute if it exists.
    pub directory: PathBuf,
    /// The process id of its server, if one answers.
    pub pid: Option<u32>,
    /// The server that wrote its files last, which is the running one if one runs.
    pub version: Option<ServerVersion>,
    /// Whether any process uses it.
    pub in_use: bool,
    /// The processes that use it, as far as the system tells: Linux does, on most file systems.
    pub users: Vec<u32>,
    /// The size of its data on disk, in bytes.
    pub data_bytes: u64,
}

impl LocalStatus {
    /// Whether a server runs and answers.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.pid.is_some()
    }
}

pub(super) fn status(dir: &Path, env: Env) -> Result<LocalStatus, LocalError> {
    let Some(directory) = Directory::existing(dir, env)? else {
        return Ok(LocalStatus {
            directory: dir.to_path_buf(),
            pid: None,
            version: None,
            in_use: false,
            users: Vec::new(),
            data_bytes: 0,
        });
    };
    Ok(LocalStatus {
        pid: wire::process_id(&directory.socket),
        version: binary::remembered(&directory)?,
        in_use: is_in_use(&directory)?,
        users: lock::holders(&directory.users_lock()),
        data_bytes: data_bytes(&directory)?,
        directory: directory.path,
    })
}

pub(super) fn stop(dir: &Path, force: bool, env: Env) -> Result<bool, LocalError> {
    let Some(directory) = Directory::existing(dir, env)? else {
        return Ok(false);
    };
    let _start = Held::exclusive(&directory.start_lock())?;
    stop_unused(&directory, force)
}

pub(super) fn wipe(dir: &Path, force: bool, env: Env) -> Result<(), LocalError> {
    let Some(directory) = Directory::existing(dir, env)? else {
        return Ok(());
    };
    let _start = Held::exclusive(&directory.start_lock())?;
    stop_unused(&directory, force)?;
    remove_data(&directory)
}

fn stop_unused(directory: &Directory, force: bool) -> Result<bool, LocalError> {
    let unused = Held::try_exclusive(&directory.users_lock())?;
    if unused.is_none() && !force {
        let users = lock::holders(&directory.users_lock());
        return Err(LocalError::Busy {
            dir: directory.path.clone(),
            users,
        });
    }
    server::stop(directory)
}

/// Looks under `start.lock`: a look at the wrong moment would make the last user believe it is not the last.
fn is_in_use(directory: &Directory) -> Result<bool, LocalError> {
    let Some(_start) = Held::try_exclusive(&directory.start_lock())? else {
        return Ok(true);
    };
    Ok(Held::try_exclusive(&directory.users_lock())?.is_none())
}

fn data_bytes(directory: &Directory) -> Result<u64, LocalError> {
    let mut bytes = 0;
    for (path, file) in files_in(&directory.aof())? {
        // The server may rename a file between the listing and this line.
        if is_server_file(&path) && file.is_file() {
            bytes += path.symlink_metadata().map_or(0, |file| file.len());
        }
    }
    Ok(bytes)
}

/// Removes what the server and pmq wrote. `remove_file` never follows a symbolic link.
fn remove_data(directory: &Directory) -> Result<(), LocalError> {
    let own = [
        directory.log(),
        directory.previous_log(),
        directory.pid_file(),
        directory.version_file(),
        directory.socket.clone(),
    ];
    own.iter().try_for_each(|path| remove_if_there(path))?;
    for dir in [&directory.path, &directory.aof()] {
        for (path, file) in files_in(dir)? {
            if is_server_file(&path) && file.is_file() {
                remove_if_there(&path)?;
            }
        }
    }
    match fs::remove_dir(directory.aof()) {
        // Not empty: somebody else's file is in it. Not a directory: a link that the server did not make.
        Err(error) if !is_left_alone(&error) => {
            Err(LocalError::io("remove", &directory.aof())(error))
        }
        _ => Ok(()),
    }
}

/// The names that Redis gives to its append-only files, and to files that a crash left half written.
fn is_server_file(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary =
        name.starts_with("temp-") && (name.ends_with(".aof") || name.ends_with(".manifest"));
    let in_aof_dir = path.parent().is_some_and(|dir| dir.ends_with(AOF_DIR));
    temporary || (in_aof_dir && name.starts_with("appendonly.aof."))
}

/// The entries of `dir` with their own types; none if it is missing or a symbolic link.
fn files_in(dir: &Path) -> Result<Vec<(PathBuf, fs::FileType)>, LocalError> {
    if !dir.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(dir).map_err(LocalError::io("list", dir))?;
    let typed = entries.map(|entry| entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))));
    typed
        .collect::<io::Result<_>>()
        .map_err(LocalError::io("list", dir))
}

fn remove_if_there(path: &Path) -> Result<(), LocalError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LocalError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn is_left_alone(error: &io::Error) -> bool {
    use io::ErrorKind::{DirectoryNotEmpty, NotADirectory, NotFound};
    matches!(error.kind(), DirectoryNotEmpty | NotADirectory | NotFound)
}
