//! Why a command could not run, and whose fault that is.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

/// Why a command could not be started or waited for.
///
/// [`CommandError::exit_code`] tells the task's own failures from the worker's troubles: the former
/// use up an attempt, the latter must not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no such program, or its interpreter is missing. Install it on the worker, or give its whole path.
    #[error("no program {program:?} on this worker; install it, or give its whole path")]
    NotFound {
        /// The program as it was named.
        program: OsString,
        /// What the system said.
        source: io::Error,
    },

    /// The file is not executable for this user. Check its mode, and its `#!` line or architecture.
    #[error("may not execute {program:?}; check its mode, its `#!` line and its architecture")]
    Denied {
        /// The program as it was named.
        program: OsString,
        /// What the system said.
        source: io::Error,
    },

    /// No system could run these arguments: none at all, a NUL byte, or too many bytes in them.
    #[error(
        "cannot pass these arguments to {program:?}; pass large data through a file or standard input"
    )]
    Invalid {
        /// The program as it was named, empty where there was none.
        program: OsString,
        /// What the system said.
        source: io::Error,
    },

    /// The directory to run in is missing or closed to this user. Make it on every worker, or name none.
    #[error("cannot run in {path:?}; make the directory on every worker, or name none")]
    WorkingDirectory {
        /// The directory that the command named.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The worker's machine is out of processes, files, memory or disk. The same command may run elsewhere, or later.
    #[error("no resources to {doing}; free some, or give this worker fewer slots")]
    Resource {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },

    /// The system failed in another way.
    #[error("could not {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl CommandError {
    /// The code that a shell would show, where the command itself is at fault: 127 not found, 126 not
    /// executable. `None` where the worker is, so that the task may run again at no cost.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::NotFound { .. } => Some(127),
            Self::Denied { .. } | Self::Invalid { .. } | Self::WorkingDirectory { .. } => Some(126),
            Self::Resource { .. } | Self::Io { .. } => None,
        }
    }

    /// Classes an error of starting `program`, whose directory is known to be usable.
    pub(super) fn starting(program: &OsStr, source: io::Error) -> Self {
        let program = program.to_owned();
        match Errno::from_io_error(&source) {
            Some(Errno::NOENT | Errno::NOTDIR) => Self::NotFound { program, source },
            Some(Errno::ACCESS | Errno::PERM | Errno::NOEXEC | Errno::ISDIR | Errno::LOOP) => {
                Self::Denied { program, source }
            }
            Some(Errno::TOOBIG | Errno::NAMETOOLONG) => Self::Invalid { program, source },
            None if source.kind() == io::ErrorKind::InvalidInput => {
                Self::Invalid { program, source }
            }
            _ => Self::doing("start a process", source),
        }
    }

    /// Classes an error of something that is the worker's own business.
    pub(super) fn doing(doing: &'static str, source: io::Error) -> Self {
        match Errno::from_io_error(&source) {
            // ETXTBSY: another thread forked while the program's file was still open for writing.
            Some(
                Errno::MFILE
                | Errno::NFILE
                | Errno::AGAIN
                | Errno::NOMEM
                | Errno::NOSPC
                | Errno::DQUOT
                | Errno::TXTBSY,
            ) => Self::Resource { doing, source },
            _ => Self::Io { doing, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starting(errno: Errno) -> CommandError {
        CommandError::starting(OsStr::new("x"), errno.into())
    }

    #[test]
    fn the_tasks_failures_have_a_shells_exit_code() {
        assert_eq!(starting(Errno::NOENT).exit_code(), Some(127));
        for errno in [Errno::ACCESS, Errno::NOEXEC, Errno::TOOBIG] {
            assert_eq!(starting(errno).exit_code(), Some(126), "{errno}");
        }
    }

    #[test]
    fn the_workers_troubles_are_no_fault_of_the_task() {
        for errno in [Errno::MFILE, Errno::AGAIN, Errno::NOSPC, Errno::NOMEM] {
            let error = starting(errno);
            assert!(matches!(error, CommandError::Resource { .. }), "{errno}");
            assert_eq!(error.exit_code(), None);
        }
        assert!(matches!(starting(Errno::IO), CommandError::Io { .. }));
    }
}
