//! The lines of a file or of stdin, as bytes.
use std::ffi::OsString;
use std::io::{self, BufRead, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The longest line, in bytes: what Linux takes for a whole command line by default.
const MAX_LINE: usize = 2 << 20;

/// Why the input could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// A file could not be opened.
    #[error("could not open the input file {}", path.display())]
    Open {
        /// The file as it was named.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Reading failed after it had begun.
    #[error("could not read line {line} of {}", path.display())]
    Read {
        /// The file as it was named; `-` is stdin.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What the system said.
        source: io::Error,
    },
    /// A line holds a NUL byte, which no argument can.
    #[error("line {line} of {} holds a NUL byte; use -0 if NUL ends each item", path.display())]
    Nul {
        /// The file as it was named; `-` is stdin.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
    },
    /// A line is longer than any command line.
    #[error("line {line} of {} is longer than {MAX_LINE} bytes; is it a list?", path.display())]
    TooLong {
        /// The file as it was named; `-` is stdin.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
    },
    /// Two sources name stdin.
    #[error("stdin is named by two sources; save it to a file and name that twice")]
    StdinTwice,
}

/// The lines of a file without their ends; a last line need not have one.
pub(super) struct Lines {
    reader: Box<dyn BufRead + Send>,
    path: PathBuf,
    end: u8,
    line: u64,
    failed: bool,
}

impl Lines {
    /// Reads lines that end at the byte `end`. `path` is for errors.
    pub(super) fn new(reader: Box<dyn BufRead + Send>, path: PathBuf, end: u8) -> Self {
        Self {
            reader,
            path,
            end,
            line: 0,
            failed: false,
        }
    }

    fn read(&mut self) -> Result<Option<OsString>, InputError> {
        self.line += 1;
        let (path, line) = (|| self.path.clone(), self.line);
        let mut bytes = Vec::new();
        let mut limited = (&mut self.reader).take(MAX_LINE as u64 + 1);
        match limited.read_until(self.end, &mut bytes) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(source) => {
                return Err(InputError::Read {
                    path: path(),
                    line,
                    source,
                });
            }
        }
        if bytes.last() == Some(&self.end) {
            bytes.pop();
        }
        if bytes.len() > MAX_LINE {
            return Err(InputError::TooLong { path: path(), line });
        }
        if bytes.contains(&0) {
            return Err(InputError::Nul { path: path(), line });
        }
        Ok(Some(OsString::from_vec(bytes)))
    }
}

impl Iterator for Lines {
    type Item = Result<OsString, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let line = self.read();
        self.failed = line.is_err();
        line.transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use super::*;

    fn lines(reader: impl BufRead + Send + 'static) -> Lines {
        Lines::new(Box::new(reader), "list".into(), b'\n')
    }

    #[test]
    fn the_last_line_needs_no_end() {
        let read = |bytes| lines(bytes).map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(read(&b"a\nb"[..]), ["a", "b"]);
        assert_eq!(read(&b"a\nb\n"[..]), ["a", "b"]);
    }

    #[test]
    fn a_nul_byte_is_named_and_ends_the_lines() {
        let mut lines = lines(&b"a\nb\0c\nd\n"[..]);
        assert_eq!(lines.next().unwrap().unwrap(), "a");
        let error = lines.next().unwrap().unwrap_err().to_string();
        assert_eq!(
            error,
            "line 2 of list holds a NUL byte; use -0 if NUL ends each item"
        );
        assert!(lines.next().is_none());
    }

    #[test]
    fn the_longest_line_is_taken_and_a_longer_one_is_not() {
        let mut line = vec![b'x'; MAX_LINE];
        line.push(b'\n');
        let mut read = lines(Cursor::new(line));
        assert_eq!(read.next().unwrap().unwrap().len(), MAX_LINE);
        assert!(read.next().is_none());

        let error = lines(BufReader::new(io::repeat(b'x')))
            .next()
            .unwrap()
            .unwrap_err();
        assert!(
            matches!(error, InputError::TooLong { line: 1, .. }),
            "{error}"
        );
    }
}
