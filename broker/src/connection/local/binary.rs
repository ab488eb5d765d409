//! Which server program to start, and the directory's memory of the one that wrote its files.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::directory::Directory;
use super::{Env, LocalError, ServerVersion, install};

/// In the order of preference.
const NAMES: [&str; 2] = ["valkey-server", "redis-server"];

/// A server program that can serve a directory.
#[derive(Debug)]
pub(super) struct Binary {
    pub(super) path: PathBuf,
    version: ServerVersion,
    /// Tells whether the program is still the one whose version is known.
    fingerprint: String,
}

impl Binary {
    /// Finds the first program that is new enough for pmq and for the files in `directory`.
    ///
    /// Looks at `PMQ_SERVER_BIN` alone if it is set, else for `valkey-server` and `redis-server` in `PATH`.
    pub(super) fn find(directory: &Directory, env: Env) -> Result<Self, LocalError> {
        let memory = Memory::read(directory)?;
        let mut refusal = None;
        for path in candidates(env) {
            match Self::examine(path, memory.as_ref())
                .and_then(|found| found.check(directory, memory.as_ref()))
            {
                Ok(binary) => return Ok(binary),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        Err(refusal.unwrap_or_else(|| LocalError::NoServer {
            install: install::command(env),
        }))
    }

    /// Asks the program for its version, unless the directory knows it: a process start is most of a start's time.
    fn examine(path: PathBuf, memory: Option<&Memory>) -> Result<Self, LocalError> {
        let fingerprint = match path.metadata() {
            Ok(file) => format!(
                "{} {}.{:09} {}",
                file.size(),
                file.mtime(),
                file.mtime_nsec(),
                path.display()
            ),
            Err(source) => {
                return Err(LocalError::Run {
                    binary: path,
                    source,
                });
            }
        };
        let version = match memory {
            Some(memory) if memory.fingerprint == fingerprint => memory.version,
            _ => ask_version(&path)?,
        };
        Ok(Self {
            path,
            version,
            fingerprint,
        })
    }

    fn check(self, directory: &Directory, memory: Option<&Memory>) -> Result<Self, LocalError> {
        if !self.version.is_supported() {
            return Err(LocalError::ServerTooOld {
                binary: self.path,
                found: self.version,
            });
        }
        match memory {
            Some(memory) if !self.version.reads_files_of(memory.version) => {
                Err(LocalError::NewerData {
                    dir: directory.path.clone(),
                    binary: self.path,
                    found: self.version,
                    remembered: memory.version,
                })
            }
            _ => Ok(self),
        }
    }

    /// Writes down that this program is about to write the directory's files.
    pub(super) fn remember(&self, directory: &Directory) -> Result<(), LocalError> {
        let path = directory.version_file();
        let new = path.with_extension("new");
        let text = format!("{}\n{}\n", self.version, self.fingerprint);
        // By rename, so that a crash leaves the old text or the new one, never half of one.
        fs::write(&new, text).map_err(LocalError::io("write", &new))?;
        fs::rename(&new, &path).map_err(LocalError::io("replace", &path))
    }
}

/// What the directory remembers: the server that wrote its files, and the program it came from.
struct Memory {
    version: ServerVersion,
    fingerprint: String,
}

impl Memory {
    fn read(directory: &Directory) -> Result<Option<Self>, LocalError> {
        let path = directory.version_file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LocalError::io("read", &path)(error)),
        };
        let (version, fingerprint) = text.split_once('\n').unwrap_or((&text, ""));
        let version = ServerVersion::from_text(version).ok_or_else(|| {
            LocalError::io("read", &path)(io::Error::new(
                io::ErrorKind::InvalidData,
                "its first line is no server version",
            ))
        })?;
        Ok(Some(Self {
            version,
            fingerprint: fingerprint.trim_end().to_owned(),
        }))
    }
}

/// The version of the server that wrote the files in `directory` last, if any did.
pub(super) fn remembered(directory: &Directory) -> Result<Option<ServerVersion>, LocalError> {
    Ok(Memory::read(directory)?.map(|memory| memory.version))
}

/// The first executable file called `name` in `PATH`.
pub(super) fn in_path(name: &str, env: Env) -> Option<PathBuf> {
    let path = env("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

fn candidates(env: Env) -> Vec<PathBuf> {
    match env("PMQ_SERVER_BIN") {
        Some(path) => vec![path.into()],
        None => NAMES.iter().filter_map(|name| in_path(name, env)).collect(),
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn ask_version(binary: &Path) -> Result<ServerVersion, LocalError> {
    let output = Command::new(binary)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| LocalError::Run {
            binary: binary.to_path_buf(),
            source,
        })?;
    ServerVersion::from_banner(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
        LocalError::UnknownServer {
            binary: binary.to_path_buf(),
        }
    })
}
