//! The joblog: one line for each job that ended, in GNU parallel's format, and what it tells a
//! later run.
use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use super::exit::Exit;
use super::past::Past;
use super::quote::{self, UnquoteError};

const HEADER: &[u8] =
    b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n";

/// A job that ended.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The job's number in the input, from 1.
    pub seq: u64,
    /// Where it ran: a worker's name, or `:` for this machine.
    pub host: &'a str,
    /// When it started, in milliseconds since 1970.
    pub started_ms: u64,
    /// How long it ran, in milliseconds.
    pub runtime_ms: u64,
    /// Bytes of input sent to it.
    pub sent: u64,
    /// Bytes of its standard output.
    pub received: u64,
    /// How it ended.
    pub exit: Exit,
    /// What was run.
    pub command: &'a [OsString],
}

/// A joblog open for writing. Only one run at a time can hold it.
#[derive(Debug)]
pub struct Joblog {
    file: File,
    path: PathBuf,
    /// The length up to the last whole line, in bytes.
    len: u64,
}

/// Why a joblog could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoblogError {
    /// The system refused.
    #[error("could not {doing} the joblog {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The joblog.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another run writes to it.
    #[error("the joblog {} is in use by another run; wait for it or name another file", path.display())]
    InUse {
        /// The joblog.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{} is not a joblog: line {line} does not read as one; name another file", path.display())]
    NotAJoblog {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// The joblog is that of a run with other commands.
    #[error(
        "job {seq} is another command in the joblog {} than in this run ({command}); \
         resume with the same command and input, or name another file",
        path.display()
    )]
    OtherRun {
        /// The joblog.
        path: PathBuf,
        /// The job's number.
        seq: u64,
        /// The command in this run.
        command: String,
    },
    /// A failed command cannot be run again from the joblog alone.
    #[error("could not read the command of job {seq} in the joblog {}", path.display())]
    Command {
        /// The joblog.
        path: PathBuf,
        /// The job's number.
        seq: u64,
        /// What is wrong with it.
        source: UnquoteError,
    },
}

impl Joblog {
    /// Starts a new joblog at `path`; what the file held is gone.
    pub fn create(path: &Path) -> Result<Self, JoblogError> {
        let mut joblog = Self::open(path)?;
        joblog.cut()?;
        joblog.write(HEADER)?;
        Ok(joblog)
    }

    /// Goes on with the joblog at `path`, or starts one if there is none.
    ///
    /// A last line without its end, as a killed run leaves it, is cut off: that job runs again.
    pub fn resume(path: &Path) -> Result<(Self, Past), JoblogError> {
        let mut joblog = Self::open(path)?;
        let past = joblog.read()?;
        joblog.cut()?;
        if joblog.len == 0 {
            joblog.write(HEADER)?;
        }
        Ok((joblog, past))
    }

    /// Adds a line, in one write. After an error the joblog is as it was before.
    pub fn append(&mut self, entry: &Entry) -> Result<(), JoblogError> {
        self.write(&entry.line())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open(path: &Path) -> Result<Self, JoblogError> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path);
        let file = file.map_err(|source| failed("open", path, source))?;
        // A file system without locks is no reason to refuse.
        if is_regular(&file) && matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(JoblogError::InUse {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            len: 0,
        })
    }

    /// Reads the whole lines, and sets `len` to where they end.
    fn read(&mut self) -> Result<Past, JoblogError> {
        let mut past = Past::new(self.path.clone());
        let mut reader = BufReader::new(&self.file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = reader.read_until(b'\n', &mut line);
            let read = read.map_err(|source| failed("read", &self.path, source))?;
            let whole = line.last() == Some(&b'\n');
            let reads = match (number, whole) {
                (1, true) => line == HEADER,
                (1, false) => HEADER.starts_with(&line),
                (_, true) => past.take(&line[..read - 1]).is_some(),
                (_, false) => true,
            };
            if !reads {
                return Err(JoblogError::NotAJoblog {
                    path: self.path.clone(),
                    line: number,
                });
            }
            if !whole {
                break;
            }
            self.len += read as u64;
        }
        Ok(past)
    }

    fn write(&mut self, line: &[u8]) -> Result<(), JoblogError> {
        if let Err(source) = self.file.write_all(line) {
            // The next line must not continue half of this one, as after a full disk.
            self.cut()?;
            return Err(failed("write to", &self.path, source));
        }
        self.len += line.len() as u64;
        Ok(())
    }

    fn cut(&self) -> Result<(), JoblogError> {
        if !is_regular(&self.file) {
            return Ok(());
        }
        self.file
            .set_len(self.len)
            .map_err(|source| failed("write to", &self.path, source))
    }
}

fn is_regular(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file())
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> JoblogError {
    JoblogError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

impl Entry<'_> {
    fn line(&self) -> Vec<u8> {
        let Self {
            seq,
            host,
            sent,
            received,
            exit: Exit { code, signal },
            ..
        } = self;
        let (started, runtime) = (seconds(self.started_ms), seconds(self.runtime_ms));
        let fields = format!(
            "{seq}\t{host}\t{started:>10}\t{runtime:>10}\t{sent}\t{received}\t{code}\t{signal}\t"
        );
        let mut line = fields.into_bytes();
        line.append(&mut quote::line(self.command));
        line.push(b'\n');
        line
    }
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn argv(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn entry(seq: u64, exit: Exit, command: &[OsString]) -> Entry<'_> {
        Entry {
            seq,
            host: ":",
            started_ms: 1_795_339_574_132,
            runtime_ms: 16,
            sent: 0,
            received: 3,
            exit,
            command,
        }
    }

    struct Fixture {
        directory: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
            }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("joblog")
        }

        fn holding(lines: &str) -> Self {
            let fixture = Self::new();
            fs::write(fixture.path(), [HEADER, lines.as_bytes()].concat()).unwrap();
            fixture
        }

        fn lines(&self) -> String {
            let content = fs::read(self.path()).unwrap();
            let lines = content
                .strip_prefix(HEADER)
                .expect("the header comes first");
            String::from_utf8(lines.to_vec()).unwrap()
        }

        fn error(&self) -> String {
            Joblog::resume(&self.path()).unwrap_err().to_string()
        }
    }

    const LINES: &str = "1\t:\t1795339576.728\t     0.005\t0\t2\t0\t0\techo a\n\
                         2\t:\t1795339576.732\t     0.008\t0\t2\t1\t0\tcat 'b c'\n\
                         3\t:\t1795339576.741\t     0.002\t0\t2\t0\t9\techo c\n";

    #[test]
    fn lines_are_those_of_gnu_parallel() {
        let fixture = Fixture::new();
        let mut joblog = Joblog::create(&fixture.path()).unwrap();
        joblog
            .append(&entry(1, Exit::code(3), &argv("sleep 0.01")))
            .unwrap();
        let quoted = ["echo".into(), "it's".into()];
        let long = Entry {
            runtime_ms: 1_506,
            ..entry(2, Exit::signal(9), &quoted)
        };
        joblog.append(&long).unwrap();
        let newline = ["echo".into(), "a\nb".into()];
        joblog
            .append(&entry(3, Exit::timed_out(), &newline))
            .unwrap();
        let expected = "1\t:\t1795339574.132\t     0.016\t0\t3\t3\t0\tsleep 0.01\n\
                        2\t:\t1795339574.132\t     1.506\t0\t3\t0\t9\techo 'it'\"'\"'s'\n\
                        3\t:\t1795339574.132\t     0.016\t0\t3\t-1\t15\techo $'a\\nb'\n";
        assert_eq!(fixture.lines(), expected);
    }

    #[test]
    fn a_new_joblog_replaces_the_old_one() {
        let fixture = Fixture::holding(LINES);
        Joblog::create(&fixture.path()).unwrap();
        assert_eq!(fixture.lines(), "");
    }

    #[test]
    fn a_resumed_joblog_grows_and_its_last_line_for_a_job_counts() {
        let fixture = Fixture::holding(LINES);
        let (mut joblog, past) = Joblog::resume(&fixture.path()).unwrap();
        assert_eq!((past.ended(), past.failed().len()), (3, 2));
        joblog
            .append(&entry(3, Exit::code(0), &argv("echo c")))
            .unwrap();
        drop(joblog);
        assert!(fixture.lines().starts_with(LINES));
        let (_, past) = Joblog::resume(&fixture.path()).unwrap();
        assert_eq!((past.ended(), past.failed().len()), (3, 1));
    }

    #[test]
    fn a_torn_last_line_is_overwritten() {
        let torn = "4\t:\t17953";
        let fixture = Fixture::holding(&format!("{LINES}{torn}"));
        let (mut joblog, past) = Joblog::resume(&fixture.path()).unwrap();
        assert_eq!(past.ended(), 3);
        joblog
            .append(&entry(4, Exit::code(0), &argv("echo d")))
            .unwrap();
        let last = "4\t:\t1795339574.132\t     0.016\t0\t3\t0\t0\techo d\n";
        assert_eq!(fixture.lines(), format!("{LINES}{last}"));
    }

    #[test]
    fn a_missing_an_empty_and_a_torn_header_start_a_joblog() {
        for content in [None, Some(&b""[..]), Some(b"Seq\tHo")] {
            let fixture = Fixture::new();
            if let Some(content) = content {
                fs::write(fixture.path(), content).unwrap();
            }
            let (_, past) = Joblog::resume(&fixture.path()).unwrap();
            assert_eq!(past.ended(), 0);
            assert_eq!(fixture.lines(), "");
        }
    }

    #[test]
    fn a_file_that_is_no_joblog_is_refused_and_left_alone() {
        for content in ["hello\n", "hello", "1\t:\t0\t0\t0\t0\t0\t0\techo a\n"] {
            let fixture = Fixture::new();
            fs::write(fixture.path(), content).unwrap();
            assert!(
                fixture.error().contains("is not a joblog: line 1 "),
                "{content:?}"
            );
            assert_eq!(fs::read_to_string(fixture.path()).unwrap(), content);
        }
        for line in [
            "garbage\n",
            "1\t:\t0\t0\t0\t0\tx\t0\techo\n",
            "\n",
            "1\t:\t0\t0\t0\t0\t0\t0\n",
        ] {
            let fixture = Fixture::holding(&format!("{LINES}{line}"));
            assert!(
                fixture.error().contains("is not a joblog: line 5 "),
                "{line:?}"
            );
        }
    }

    #[test]
    fn two_runs_cannot_share_a_joblog() {
        let fixture = Fixture::new();
        let first = Joblog::create(&fixture.path()).unwrap();
        let error = Joblog::create(&fixture.path()).unwrap_err();
        assert!(matches!(error, JoblogError::InUse { .. }), "{error}");
        drop(first);
        Joblog::create(&fixture.path()).unwrap();
    }

    #[test]
    fn a_device_is_written_to_as_it_is() {
        let mut joblog = Joblog::create(Path::new("/dev/null")).unwrap();
        joblog
            .append(&entry(1, Exit::code(0), &argv("true")))
            .unwrap();
        let error = Joblog::create(Path::new("/dev/full")).unwrap_err();
        assert_eq!(error.to_string(), "could not write to the joblog /dev/full");
    }
}
