//! A directory of one test: short enough for sockets, and gone with the test.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::watchdog;

/// An empty 0700 directory. Drop kills every process that works in it or below, then removes it.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// Makes a new directory.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("")
            .rand_bytes(4)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(watchdog::root());
        Self(
            directory
                .unwrap_or_else(|error| panic!("could not make a directory for the test: {error}")),
        )
    }

    /// Where it is, without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of `name` in this directory.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for pid in residents(self.path()) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Who works below `directory`: how a server is found that detached itself from the test on purpose. Only
/// Linux tells; elsewhere nobody is found.
fn residents(directory: &Path) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|process| {
            let process = process.ok()?.path();
            let pid = Pid::from_raw(process.file_name()?.to_str()?.parse().ok()?)?;
            let works_in = std::fs::read_link(process.join("cwd")).ok()?;
            works_in.starts_with(directory).then_some(pid)
        })
        .filter(|pid| *pid != rustix::process::getpid())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn is_removed_with_its_residents() {
        let scratch = Scratch::new();
        let path = scratch.path().to_owned();
        let mut resident = Command::new("sleep")
            .arg("600")
            .current_dir(&path)
            .spawn()
            .unwrap();
        drop(scratch);
        assert!(!resident.wait().unwrap().success());
        assert!(!path.exists());
    }

    #[test]
    fn leaves_room_for_a_socket() {
        assert!(Scratch::new().join("s").as_os_str().len() < 100);
    }
}
