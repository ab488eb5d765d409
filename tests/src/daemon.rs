//! A server's program in a directory of its own: killed, stopped, and started again on the same files.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::ExitStatus;

use rustix::process::Signal;

use crate::scratch::Scratch;
use crate::watchdog::{self, Watched};

/// A running Redis server or sentinel. Drop kills it and removes the directory.
#[derive(Debug)]
pub struct Daemon {
    process: Watched,
    files: Scratch,
    arguments: &'static [&'static str],
}

impl Daemon {
    /// Starts it in the directory of these files.
    pub(crate) fn start(files: Scratch, arguments: &'static [&'static str]) -> Self {
        Self {
            process: launch(&files, arguments),
            files,
            arguments,
        }
    }

    /// The process id; another one after a restart.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where its configuration, log and data are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.files.path()
    }

    /// What it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.files.join("log"))
    }

    /// Kills it with SIGKILL and returns when it is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it with SIGSTOP and returns when it stands: connections stay open, nothing answers.
    pub fn stop(&mut self) {
        self.process.stop(Signal::STOP);
    }

    /// Lets a stopped one go on.
    pub fn resume(&mut self) {
        self.process.signal(Signal::CONT);
    }

    /// Starts it again on the same files and address; one that still runs is killed first.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.files, self.arguments);
    }

    /// Asks it to end as an operator would (SIGTERM).
    pub(crate) fn terminate(&mut self) {
        self.process.signal(Signal::TERM);
    }

    /// How it ended, once it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }
}

fn launch(files: &Scratch, arguments: &[&str]) -> Watched {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(files.join("log"))
        .expect("the log can be opened");
    let errors = log.try_clone().expect("a file can be opened twice");
    Watched::start(
        watchdog::command(program())
            .args(arguments)
            .current_dir(files.path())
            .stdout(log)
            .stderr(errors),
    )
}

/// The text of a log, as far as it is there.
pub(crate) fn read(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

fn program() -> OsString {
    std::env::var_os("PMQ_SERVER_BIN").unwrap_or_else(|| "redis-server".into())
}
