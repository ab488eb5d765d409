//! Where the local broker lives: its directory, the files in it, and its socket.

use std::ffi::OsStr;
use std::fmt::Write;
use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Env, LocalError};

/// A socket address holds 108 bytes on Linux and 104 on macOS.
const LONGEST_SOCKET_PATH: usize = 100;

/// The server's own name for the folder of its append-only files.
pub(super) const AOF_DIR: &str = "appendonlydir";

/// The directory of one local broker. Its path is absolute and without symbolic links.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) socket: PathBuf,
}

impl Directory {
    /// Creates `dir` where needed, and makes sure that nobody else can enter it.
    pub(super) fn create(dir: &Path, env: Env) -> Result<Self, LocalError> {
        create_private(dir)?;
        let directory = Self::canonical(dir, env)?;
        directory.ensure_private()?;
        let socket_dir = directory
            .socket
            .parent()
            .expect("a socket path has a parent by construction");
        if socket_dir != directory.path {
            create_private(socket_dir)?;
            check_private(socket_dir)?;
        }
        Ok(directory)
    }

    /// The local broker in `dir`, or `None` if there never was one.
    pub(super) fn existing(dir: &Path, env: Env) -> Result<Option<Self>, LocalError> {
        if !dir.join("start.lock").exists() {
            return Ok(None);
        }
        let directory = Self::canonical(dir, env)?;
        directory.ensure_private()?;
        Ok(Some(directory))
    }

    fn canonical(dir: &Path, env: Env) -> Result<Self, LocalError> {
        // Two spellings of one directory must agree on the socket.
        let path = dir.canonicalize().map_err(LocalError::io("resolve", dir))?;
        let socket = socket_path(&path, env)?;
        Ok(Self { path, socket })
    }

    pub(super) fn start_lock(&self) -> PathBuf {
        self.path.join("start.lock")
    }

    pub(super) fn users_lock(&self) -> PathBuf {
        self.path.join("users.lock")
    }

    pub(super) fn server_lock(&self) -> PathBuf {
        self.path.join("server.lock")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("server.log")
    }

    pub(super) fn previous_log(&self) -> PathBuf {
        self.path.join("server.log.old")
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.path.join("server.pid")
    }

    pub(super) fn version_file(&self) -> PathBuf {
        self.path.join("server-version")
    }

    pub(super) fn aof(&self) -> PathBuf {
        self.path.join(AOF_DIR)
    }

    /// Closes the directory to others if it is empty or already pmq's; refuses it if not.
    ///
    /// A directory with other files in it is somebody's choice: closing `/tmp` would harm the whole machine.
    fn ensure_private(&self) -> Result<(), LocalError> {
        let Err(refusal) = check_private(&self.path) else {
            return Ok(());
        };
        let LocalError::NotPrivate { mode, .. } = &refusal else {
            return Err(refusal);
        };
        let sticky = mode & 0o1000 != 0;
        if sticky || !(self.start_lock().exists() || is_empty(&self.path)?) {
            return Err(refusal);
        }
        fs::set_permissions(&self.path, Permissions::from_mode(0o700))
            .map_err(LocalError::io("chmod", &self.path))
    }
}

/// See [`super::LocalBroker::directory`].
pub(super) fn locate(name: Option<&str>, env: Env) -> Result<PathBuf, LocalError> {
    let name = name.unwrap_or("default");
    if name.is_empty() || name.contains(['/', '\0']) {
        return Err(LocalError::InvalidName {
            name: name.to_owned(),
        });
    }
    if let Some(dir) = env("PMQ_DATA_DIR") {
        return Ok(dir.into());
    }
    // The XDG specification tells to ignore relative paths.
    let absolute = |name| {
        env(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .replace('/', "_");
    Ok(state
        .ok_or(LocalError::NoHome)?
        .join("pmq")
        .join(format!("{name}@{host}")))
}

/// In the directory itself, or under `XDG_RUNTIME_DIR` where the path would be too long for a socket.
fn socket_path(dir: &Path, env: Env) -> Result<PathBuf, LocalError> {
    let beside_data = dir.join("server.sock");
    if fits(&beside_data) {
        return Ok(beside_data);
    }
    let runtime = env("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let path = match runtime {
        Some(runtime) => runtime
            .join(format!("pmq-{}", short_hash(dir.as_os_str())))
            .join("s"),
        None => beside_data,
    };
    if fits(&path) {
        return Ok(path);
    }
    Err(LocalError::SocketPathTooLong {
        path,
        limit: LONGEST_SOCKET_PATH,
    })
}

fn fits(socket: &Path) -> bool {
    socket.as_os_str().len() <= LONGEST_SOCKET_PATH
}

/// 16 hexadecimal digits that are the same in every process and every build.
fn short_hash(text: &OsStr) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(String::new(), |mut hash, byte| {
        let _ = write!(hash, "{byte:02x}");
        hash
    })
}

/// `redis+unix://` and the path; bytes that mean something else in a URL are percent-encoded.
pub(super) fn url(socket: &Path) -> String {
    let mut url = String::from("redis+unix://");
    for &byte in socket.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~@".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

fn create_private(dir: &Path) -> Result<(), LocalError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(LocalError::io("create", dir))
}

fn check_private(dir: &Path) -> Result<(), LocalError> {
    let found: Metadata = dir.metadata().map_err(LocalError::io("inspect", dir))?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(LocalError::NotOwned {
            dir: dir.to_path_buf(),
            owner: found.uid(),
        });
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(LocalError::NotPrivate {
            dir: dir.to_path_buf(),
            mode,
        });
    }
    Ok(())
}

fn is_empty(dir: &Path) -> Result<bool, LocalError> {
    let first: Option<io::Result<_>> = fs::read_dir(dir)
        .map_err(LocalError::io("list", dir))?
        .next();
    Ok(first.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    /// An environment with these variables only.
    fn env<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        }
    }

    fn located(name: Option<&str>, variables: &[(&str, &str)]) -> Result<String, LocalError> {
        locate(name, &env(variables)).map(|path| path.display().to_string())
    }

    #[test]
    fn the_directory_follows_the_environment() {
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let all = [
            ("PMQ_DATA_DIR", "/data"),
            ("XDG_STATE_HOME", "/state"),
            ("HOME", "/home/ann"),
        ];
        assert_eq!(located(None, &all).unwrap(), "/data");
        assert_eq!(
            located(None, &all[1..]).unwrap(),
            format!("/state/pmq/default@{host}")
        );
        assert_eq!(
            located(Some("ci"), &all[2..]).unwrap(),
            format!("/home/ann/.local/state/pmq/ci@{host}")
        );
        let relative = [("XDG_STATE_HOME", "state"), ("HOME", "/home/ann")];
        assert_eq!(
            located(Some("ci"), &relative).unwrap(),
            format!("/home/ann/.local/state/pmq/ci@{host}")
        );
        assert!(matches!(located(None, &[]), Err(LocalError::NoHome)));
    }

    #[test]
    fn a_name_cannot_leave_the_state_directory() {
        for name in ["", "../../etc", "a/b"] {
            assert!(
                matches!(
                    located(Some(name), &[("HOME", "/h")]),
                    Err(LocalError::InvalidName { .. })
                ),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_long_socket_path_moves_to_the_runtime_directory() {
        let short = Path::new("/data");
        let long = PathBuf::from("/").join("d".repeat(100));
        let runtime = env(&[("XDG_RUNTIME_DIR", "/run/user/7")]);
        assert_eq!(
            socket_path(short, &runtime).unwrap(),
            Path::new("/data/server.sock")
        );

        let moved = socket_path(&long, &runtime).unwrap();
        assert!(
            moved.starts_with("/run/user/7") && fits(&moved),
            "{}",
            moved.display()
        );
        assert_ne!(moved, socket_path(&long.join("other"), &runtime).unwrap());

        let error = socket_path(&long, &env(&[])).unwrap_err();
        assert!(error.to_string().contains("set PMQ_DATA_DIR"), "{error}");
    }

    #[test]
    fn the_url_survives_odd_paths() {
        assert_eq!(url(Path::new("/a/b@c/s")), "redis+unix:///a/b@c/s");
        assert_eq!(
            url(Path::new("/a b/100%/?#")),
            "redis+unix:///a%20b/100%25/%3F%23"
        );
    }

    #[test]
    fn an_open_directory_is_closed_only_if_it_is_empty_or_pmqs() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("data");
        let open = || fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        let mode = || dir.metadata().unwrap().mode() & 0o777;
        fs::create_dir(&dir).unwrap();

        open();
        Directory::create(&dir, &env(&[])).unwrap();
        assert_eq!(mode(), 0o700, "an empty directory is closed");

        fs::write(dir.join("thesis.txt"), "mine").unwrap();
        open();
        let error = Directory::create(&dir, &env(&[])).unwrap_err();
        assert!(error.to_string().contains("chmod 700"), "{error}");
        assert_eq!(mode(), 0o755, "a directory with other files is left alone");

        fs::write(dir.join("start.lock"), "").unwrap();
        Directory::create(&dir, &env(&[])).unwrap();
        assert_eq!(mode(), 0o700, "pmq's own directory is closed");
    }
}
