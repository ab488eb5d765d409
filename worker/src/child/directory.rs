//! The directory that a command runs in.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::CommandError;

/// The caller's directory, or one of the command's own that goes when the command has ended.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    private: Option<TempDir>,
}

impl Directory {
    /// Takes the directory that was given, or makes a private one (0700, under `TMPDIR`).
    pub(super) fn enter(given: Option<PathBuf>) -> Result<Self, CommandError> {
        if let Some(path) = given {
            return Ok(Self {
                path,
                private: None,
            });
        }
        let private = tempfile::Builder::new()
            .prefix("pmq-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|source| CommandError::doing("make a private working directory", source))?;
        Ok(Self {
            path: private.path().to_owned(),
            private: Some(private),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a command could run here; asked only after a start has failed, as it costs a system call.
    pub(super) fn check(&self) -> Result<(), CommandError> {
        match fs::metadata(self.path.join(".")) {
            Ok(_) => Ok(()),
            Err(source) => Err(CommandError::WorkingDirectory {
                path: self.path.clone(),
                source,
            }),
        }
    }
}

impl Directory {
    /// Removes a private directory, and waits for it: who comes next may need the room.
    pub(super) async fn leave(mut self) {
        if let Some(private) = self.remove_if_empty() {
            let _ = tokio::task::spawn_blocking(move || drop(private)).await;
        }
    }

    /// Most commands leave nothing behind; only a tree, which may be large, is worth another thread.
    fn remove_if_empty(&mut self) -> Option<TempDir> {
        let mut private = self.private.take()?;
        if fs::remove_dir(&self.path).is_err() {
            return Some(private);
        }
        private.disable_cleanup(true);
        None
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Some(private) = self.remove_if_empty()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn_blocking(move || drop(private));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_directory_is_closed_to_others_and_goes_with_what_is_in_it() {
        let directory = Directory::enter(None).unwrap();
        let path = directory.path().to_owned();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        fs::write(path.join("left"), "behind").unwrap();
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn a_given_directory_stays() {
        let given = tempfile::tempdir().unwrap();
        drop(Directory::enter(Some(given.path().to_owned())).unwrap());
        assert!(given.path().is_dir());
    }
}
