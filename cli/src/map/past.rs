//! What a joblog tells a later run: which jobs ended, how, and what to run again.
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;

use super::exit::Exit;
use super::joblog::JoblogError;
use super::quote;

/// What a joblog says of earlier runs. Where a job stands in it more than once, its last line counts.
#[derive(Debug)]
pub struct Past {
    path: PathBuf,
    /// A digest of each job's command: the commands themselves would not fit for ten million jobs.
    commands: HashMap<u64, u64>,
    failed: BTreeMap<u64, Vec<u8>>,
}

/// What became of a job in earlier runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It did not end.
    Unknown,
    /// It succeeded.
    Succeeded,
    /// It failed.
    Failed,
}

/// A job that failed, as the joblog has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The job's number.
    pub seq: u64,
    /// What was run.
    pub command: Vec<OsString>,
}

impl Past {
    /// What became of job `seq`. An error if it was another command than the one it is now.
    pub fn fate(&self, seq: u64, command: &[OsString]) -> Result<Fate, JoblogError> {
        let Some(&then) = self.commands.get(&seq) else {
            return Ok(Fate::Unknown);
        };
        let now = quote::line(command);
        if digest(&now) != then {
            let command = String::from_utf8_lossy(&now).into_owned();
            return Err(JoblogError::OtherRun {
                path: self.path.clone(),
                seq,
                command,
            });
        }
        Ok(if self.failed.contains_key(&seq) {
            Fate::Failed
        } else {
            Fate::Succeeded
        })
    }

    /// The number of jobs that ended.
    #[must_use]
    pub fn ended(&self) -> usize {
        self.commands.len()
    }

    /// The jobs that failed and their commands, by number.
    #[must_use]
    pub fn failed(&self) -> impl ExactSizeIterator<Item = Result<Failure, JoblogError>> {
        self.failed
            .iter()
            .map(|(&seq, line)| match quote::words(line) {
                Ok(command) => Ok(Failure { seq, command }),
                Err(source) => Err(JoblogError::Command {
                    path: self.path.clone(),
                    seq,
                    source,
                }),
            })
    }

    /// Knows of no job yet; `path` is for errors.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            commands: HashMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Takes in a line; `None` if it is not one of a joblog.
    pub(super) fn take(&mut self, line: &[u8]) -> Option<()> {
        let mut fields = line.splitn(9, |&byte| byte == b'\t');
        let seq = number(fields.next()?)?;
        let mut numbers = fields.by_ref().skip(5);
        let exit = Exit {
            code: number(numbers.next()?)?,
            signal: number(numbers.next()?)?,
        };
        let command = numbers.next()?;
        self.commands.insert(seq, digest(command));
        if exit.is_success() {
            self.failed.remove(&seq);
        } else {
            self.failed.insert(seq, command.to_vec());
        }
        Some(())
    }
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn digest(line: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(line);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::quote::UnquoteError;
    use super::*;

    const LINES: [&str; 4] = [
        "1\t:\t1795339576.728\t     0.005\t0\t2\t0\t0\techo a",
        "2\t:\t1795339576.732\t     0.008\t0\t2\t1\t0\tcat 'b c'",
        "3\thost-2\t1795339576.741\t     0.002\t0\t2\t0\t9\techo c",
        "4\t:\t1795339576.801\t     1.217\t0\t0\t-1\t15\tsleep 5",
    ];

    fn past(lines: &[&str]) -> Past {
        let mut past = Past::new("jobs.log".into());
        for line in lines {
            past.take(line.as_bytes()).expect("a line of a joblog");
        }
        past
    }

    fn argv(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn failed(past: &Past) -> Vec<Failure> {
        past.failed().map(Result::unwrap).collect()
    }

    #[test]
    fn each_job_has_its_fate() {
        let past = past(&LINES);
        let fate = |seq, words: &[&str]| past.fate(seq, &argv(words)).unwrap();
        assert_eq!(fate(1, &["echo", "a"]), Fate::Succeeded);
        assert_eq!(fate(2, &["cat", "b c"]), Fate::Failed);
        assert_eq!(fate(3, &["echo", "c"]), Fate::Failed);
        assert_eq!(fate(4, &["sleep", "5"]), Fate::Failed);
        assert_eq!(fate(5, &["echo", "e"]), Fate::Unknown);
        assert_eq!(past.ended(), 4);
    }

    #[test]
    fn failed_jobs_come_with_their_commands() {
        let commands = [
            argv(&["cat", "b c"]),
            argv(&["echo", "c"]),
            argv(&["sleep", "5"]),
        ];
        let expected = (2..)
            .zip(commands)
            .map(|(seq, command)| Failure { seq, command });
        assert!(expected.eq(failed(&past(&LINES))));
    }

    #[test]
    fn the_last_line_of_a_job_counts() {
        let success = "2\t:\t1795339577.000\t     0.008\t0\t2\t0\t0\tcat 'b c'";
        let past = past(&[LINES[1], success]);
        assert_eq!(failed(&past), []);
        assert_eq!(
            past.fate(2, &argv(&["cat", "b c"])).unwrap(),
            Fate::Succeeded
        );
    }

    #[test]
    fn another_command_is_another_run() {
        let error = past(&LINES).fate(1, &argv(&["ls", "x y"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "job 1 is another command in the joblog jobs.log than in this run (ls 'x y'); \
             resume with the same command and input, or name another file"
        );
    }

    #[test]
    fn a_shell_line_of_another_program_is_not_run_as_words() {
        let past = past(&["1\t:\t0.000\t     0.005\t0\t2\t1\t0\techo a; exit 1"]);
        let error = past.failed().next().unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not read the command of job 1 in the joblog jobs.log"
        );
        assert!(matches!(
            error,
            JoblogError::Command {
                source: UnquoteError::NeedsShell(';'),
                ..
            }
        ));
    }

    #[test]
    fn other_lines_are_not_taken() {
        let lines = [
            "",
            "garbage",
            "x\t:\t0\t0\t0\t0\t0\t0\techo",
            "1\t:\t0\t0\t0\t0\tx\t0\techo",
            "1\t:\t0\t0\t0\t0\t0\t0",
        ];
        for line in lines {
            assert_eq!(
                Past::new("x".into()).take(line.as_bytes()),
                None,
                "{line:?}"
            );
        }
    }
}
