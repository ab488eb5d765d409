//! File locks that the kernel releases when their process dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use super::{LocalError, poll};

/// Longer than any holder's own limits, so only a suspended process runs into it.
const LIMIT: Duration = Duration::from_secs(130);

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(super) struct Held(File);

impl Held {
    /// Waits for the lock on `path` for this process alone.
    pub(super) fn exclusive(path: &Path) -> Result<Self, LocalError> {
        let file = open(path)?;
        wait_for(path, || file.try_lock())?;
        Ok(Self(file))
    }

    /// Waits for a lock on `path` that any number of processes share.
    pub(super) fn shared(path: &Path) -> Result<Self, LocalError> {
        let file = open(path)?;
        wait_for(path, || file.try_lock_shared())?;
        Ok(Self(file))
    }

    /// Takes the lock on `path` if nobody holds it in any way.
    pub(super) fn try_exclusive(path: &Path) -> Result<Option<Self>, LocalError> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(LocalError::io("lock", path)(error)),
        }
    }

    /// Gives the lock up before the drop.
    ///
    /// Closing the file is not enough: a child that is being forked has a copy of it for a moment.
    pub(super) fn release(&self) {
        // Unlocking an open file fails only if the kernel is out of memory; closing it unlocks as well.
        let _ = self.0.unlock();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}

/// Like [`Held::exclusive`], as a plain file: the lock lives on in the child that is given the file.
pub(super) fn inheritable(path: &Path) -> Result<File, LocalError> {
    let file = open(path)?;
    wait_for(path, || file.try_lock())?;
    Ok(file)
}

/// Opens close-on-exec, as the standard library always does: no child inherits a lock by accident.
fn open(path: &Path) -> Result<File, LocalError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(LocalError::io("open", path))
}

fn wait_for(
    path: &Path,
    mut attempt: impl FnMut() -> Result<(), TryLockError>,
) -> Result<(), LocalError> {
    let outcome = poll::until(LIMIT, || match attempt() {
        Ok(()) => Some(Ok(())),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(error)) => Some(Err(LocalError::io("lock", path)(error))),
    });
    outcome.unwrap_or_else(|| {
        Err(LocalError::Locked {
            path: path.to_path_buf(),
            seconds: LIMIT.as_secs(),
            holders: holders(path),
        })
    })
}

/// The processes that hold a lock on `path`, as far as the system tells: none outside Linux.
pub(super) fn holders(path: &Path) -> Vec<u32> {
    let (Ok(file), Ok(locks)) = (path.metadata(), fs::read_to_string("/proc/locks")) else {
        return Vec::new();
    };
    let device = file.dev();
    let file_id = format!(
        "{:02x}:{:02x}:{}",
        rustix::fs::major(device),
        rustix::fs::minor(device),
        file.ino()
    );
    let mut ids: Vec<u32> = locks
        .lines()
        .filter_map(|line| holder(line, &file_id))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Reads a line like `1: FLOCK  ADVISORY  READ 4711 08:01:1234 0 EOF`.
fn holder(line: &str, file_id: &str) -> Option<u32> {
    let mut fields = line.split_whitespace().skip(1);
    if fields.next()? != "FLOCK" {
        return None;
    }
    let process = fields.nth(2)?.parse().ok()?;
    (fields.next()? == file_id).then_some(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_holder_of_one_file() {
        assert_eq!(
            holder(
                "1: FLOCK  ADVISORY  READ 4711 08:01:1234 0 EOF",
                "08:01:1234"
            ),
            Some(4711)
        );
        assert_eq!(
            holder(
                "1: FLOCK  ADVISORY  READ 4711 08:01:1235 0 EOF",
                "08:01:1234"
            ),
            None
        );
        assert_eq!(
            holder(
                "1: POSIX  ADVISORY  READ 4711 08:01:1234 0 EOF",
                "08:01:1234"
            ),
            None
        );
        assert_eq!(
            holder(
                "1: -> FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF",
                "08:01:1234"
            ),
            None
        );
    }

    #[test]
    fn a_shared_lock_excludes_an_exclusive_one_until_released() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Held::shared(&path).unwrap();
        let second = Held::shared(&path).unwrap();
        assert!(Held::try_exclusive(&path).unwrap().is_none());
        first.release();
        assert!(
            Held::try_exclusive(&path).unwrap().is_none(),
            "the second user still holds it"
        );
        drop(second);
        assert!(Held::try_exclusive(&path).unwrap().is_some());
    }
}
