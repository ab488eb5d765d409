//! The jobs of `pmq map`: one for each line, or for each combination of several sources.
//!
//! The first source varies slowest and is read as it is needed, so that ten million lines stream;
//! the others are read whole when the input is opened, since every line of the first needs them.
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::iter;
use std::path::{Path, PathBuf};

use super::argv::{Items, Source};
use super::lines::{InputError, Lines};

/// One job: its arguments, one for each source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number, counted from 1 in the order of the input.
    pub seq: u64,
    /// Its arguments in the order of the sources.
    pub args: Vec<OsString>,
}

/// How the lines of files and stdin are read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    /// Items end at a NUL byte instead of a newline (`-0`), as `find -print0` writes them.
    pub null: bool,
    /// Empty items, also those after `:::`, make no job (`-r`). Without it they do.
    pub skip_empty: bool,
}

/// The jobs, in order. Ends after the first error.
pub struct Jobs {
    head: Rows,
    row: Vec<OsString>,
    rest: Vec<Group>,
    /// How many combinations the groups after the first have; 1 if there are none.
    combinations: u64,
    /// The next combination for `row`; at `combinations` a new row is due.
    next: u64,
    seq: u64,
    total: Option<u64>,
}

impl Jobs {
    /// Opens the `sources`, or stdin if there are none. Reads all but the first.
    ///
    /// With several sources an empty one counts as a single empty argument, so that it does not
    /// empty the whole product.
    pub fn open(
        sources: Vec<Source>,
        reading: Reading,
        stdin: impl BufRead + Send + 'static,
    ) -> Result<Self, InputError> {
        let pad = sources.len() > 1;
        let mut opener = Opener {
            reading,
            pad,
            stdin: Some(Box::new(stdin)),
        };
        let mut sources = sources.into_iter();
        let first = sources.next().unwrap_or_else(|| Source::file("-"));
        let mut head = Rows {
            columns: vec![opener.open(first.items)?],
        };
        let mut groups: Vec<Rows> = Vec::new();
        for Source { items, linked } in sources {
            let column = opener.open(items)?;
            if linked {
                groups.last_mut().unwrap_or(&mut head).columns.push(column);
            } else {
                groups.push(Rows {
                    columns: vec![column],
                });
            }
        }
        let rest = Group::read_all(groups)?;
        let combinations = rest.first().map_or(1, Group::span);
        let total = head.len().map(|rows| rows.saturating_mul(combinations));
        Ok(Self {
            head,
            row: Vec::new(),
            rest,
            combinations,
            next: combinations,
            seq: 0,
            total,
        })
    }

    /// How many jobs there are in all, or `None` while that takes reading the input to its end.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.total
    }
}

impl Iterator for Jobs {
    type Item = Result<Job, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.combinations {
            match self.head.next()? {
                Ok(row) => self.row = row,
                Err(error) => return Some(Err(error)),
            }
            self.next = 0;
        }
        let mut args = self.row.clone();
        for group in &self.rest {
            args.extend_from_slice(group.row(self.next));
        }
        self.next += 1;
        self.seq += 1;
        Some(Ok(Job {
            seq: self.seq,
            args,
        }))
    }
}

/// A group of linked sources after the first group, held in memory.
struct Group {
    rows: Vec<Vec<OsString>>,
    /// For how many combinations in a row this group stays at one row.
    stride: u64,
}

impl Group {
    fn read_all(groups: Vec<Rows>) -> Result<Vec<Self>, InputError> {
        let read = |rows: Rows| {
            Ok(Self {
                rows: rows.collect::<Result<_, _>>()?,
                stride: 1,
            })
        };
        let mut groups = groups
            .into_iter()
            .map(read)
            .collect::<Result<Vec<_>, InputError>>()?;
        let mut stride = 1;
        for group in groups.iter_mut().rev() {
            group.stride = stride;
            stride = group.span();
        }
        Ok(groups)
    }

    /// How many combinations this group and those after it have.
    fn span(&self) -> u64 {
        self.stride.saturating_mul(self.rows.len() as u64)
    }

    fn row(&self, combination: u64) -> &[OsString] {
        let index = combination / self.stride % self.rows.len() as u64;
        &self.rows[index as usize]
    }
}

/// Linked sources side by side; ends with the shortest.
struct Rows {
    columns: Vec<Column>,
}

impl Rows {
    fn len(&self) -> Option<u64> {
        let lengths: Option<Vec<u64>> = self.columns.iter().map(|column| column.len).collect();
        lengths?.into_iter().min()
    }
}

impl Iterator for Rows {
    type Item = Result<Vec<OsString>, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.columns
            .iter_mut()
            .map(|column| column.items.next())
            .collect()
    }
}

/// The items of one source.
struct Column {
    items: Box<dyn Iterator<Item = Result<OsString, InputError>> + Send>,
    /// How many items there are, where that is known without reading them.
    len: Option<u64>,
}

impl Column {
    fn or_one_empty(self) -> Self {
        let mut items = self.items.peekable();
        if items.peek().is_none() {
            return Self {
                items: Box::new(iter::once(Ok(OsString::new()))),
                len: Some(1),
            };
        }
        Self {
            items: Box::new(items),
            len: self.len,
        }
    }
}

/// Opens sources, and hands out stdin once.
struct Opener {
    reading: Reading,
    /// Whether an empty source counts as a single empty argument.
    pad: bool,
    stdin: Option<Box<dyn BufRead + Send>>,
}

impl Opener {
    fn open(&mut self, items: Items) -> Result<Column, InputError> {
        let skip_empty = self.reading.skip_empty;
        let column = match items {
            Items::Listed(mut words) => {
                words.retain(|word| !(skip_empty && word.is_empty()));
                let len = Some(words.len() as u64);
                Column {
                    items: Box::new(words.into_iter().map(Ok)),
                    len,
                }
            }
            Items::File(path) => {
                let wanted = move |line: &Result<OsString, _>| {
                    !(skip_empty && line.as_ref().is_ok_and(|line| line.is_empty()))
                };
                Column {
                    items: Box::new(self.lines(path)?.filter(wanted)),
                    len: None,
                }
            }
        };
        Ok(if self.pad {
            column.or_one_empty()
        } else {
            column
        })
    }

    fn lines(&mut self, path: PathBuf) -> Result<Lines, InputError> {
        let end = if self.reading.null { b'\0' } else { b'\n' };
        if path == Path::new("-") {
            let stdin = self.stdin.take().ok_or(InputError::StdinTwice)?;
            return Ok(Lines::new(stdin, path, end));
        }
        match File::open(&path) {
            Ok(file) => Ok(Lines::new(Box::new(BufReader::new(file)), path, end)),
            Err(source) => Err(InputError::Open { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};

    use super::super::argv;
    use super::*;

    const LINES: Reading = Reading {
        null: false,
        skip_empty: false,
    };

    /// The jobs of `pmq map -- x <words>` with this stdin, each with its arguments joined by commas.
    fn jobs(words: &str, stdin: &'static [u8], reading: Reading) -> Vec<String> {
        let argv = words.split_whitespace().map(OsString::from).collect();
        let sources = argv::split(argv).unwrap().sources;
        let jobs = Jobs::open(sources, reading, stdin).unwrap();
        let total = jobs.total();
        let jobs: Vec<Job> = jobs.map(Result::unwrap).collect();
        assert!(jobs.iter().map(|job| job.seq).eq(1..=jobs.len() as u64));
        assert!(
            total.is_none_or(|total| total == jobs.len() as u64),
            "{total:?}"
        );
        let join = |job: &Job| job.args.join("|".as_ref()).into_string().unwrap();
        jobs.iter().map(join).collect()
    }

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn each_line_is_a_job_and_ends_are_optional() {
        assert_eq!(jobs("", b"a\n\nb\r\nc", LINES), ["a", "", "b\r", "c"]);
        assert_eq!(jobs("", b"a\n\n\n", LINES), ["a", "", ""]);
        assert_eq!(jobs("", b"\n", LINES), [""]);
        assert_eq!(jobs("", b"  a  \n", LINES), ["  a  "]);
        assert!(jobs("", b"", LINES).is_empty());
    }

    #[test]
    fn no_run_if_empty_skips_empty_items_only() {
        let reading = Reading {
            skip_empty: true,
            ..LINES
        };
        assert_eq!(jobs("", b"a\n\n  \nc\n", reading), ["a", "  ", "c"]);
        let words = ["", "b"].map(OsString::from).to_vec();
        let source = Source {
            items: Items::Listed(words),
            linked: false,
        };
        let jobs = Jobs::open(vec![source], reading, io::empty()).unwrap();
        assert_eq!(jobs.total(), Some(1));
        assert_eq!(jobs.count(), 1);
    }

    #[test]
    fn null_separates_where_asked() {
        let reading = Reading {
            null: true,
            ..LINES
        };
        assert_eq!(jobs("", b"a\0b\nc\0\0d", reading), ["a", "b\nc", "", "d"]);
        assert_eq!(jobs("", b"a\0", reading), ["a"]);
    }

    #[test]
    fn sources_combine_as_in_gnu_parallel() {
        let cases: [(&str, &[&str]); 11] = [
            ("::: a b ::: 1 2", &["a|1", "a|2", "b|1", "b|2"]),
            (
                "::: a ::: b c ::: d e",
                &["a|b|d", "a|b|e", "a|c|d", "a|c|e"],
            ),
            ("::: a b c :::+ 1 2", &["a|1", "b|2"]),
            ("::: a b :::+ 1 2 3", &["a|1", "b|2"]),
            (
                "::: a b ::: x y :::+ 1 2",
                &["a|x|1", "a|y|2", "b|x|1", "b|y|2"],
            ),
            (
                "::: a b :::+ 1 2 ::: x y",
                &["a|1|x", "a|1|y", "b|2|x", "b|2|y"],
            ),
            ("::: a :::+ 1 2 :::+ x y z", &["a|1|x"]),
            (":::+ 1 2", &["1", "2"]),
            ("::: a b :::", &["a|", "b|"]),
            ("::: a b :::+", &["a|"]),
            (":::", &[]),
        ];
        for (words, expected) in cases {
            assert_eq!(jobs(words, b"unused\n", LINES), expected, "{words}");
        }
    }

    #[test]
    fn files_and_stdin_combine_with_words() {
        let (digits, letters) = (file(b"1\n2\n"), file(b"x\ny\nz"));
        let (digits, letters) = (digits.path().display(), letters.path().display());
        let both = jobs(&format!(":::: {digits} {letters}"), b"", LINES);
        assert_eq!(both, ["1|x", "1|y", "1|z", "2|x", "2|y", "2|z"]);
        assert_eq!(
            jobs(&format!(":::: {digits} ::::+ {letters}"), b"", LINES),
            ["1|x", "2|y"]
        );
        assert_eq!(
            jobs(&format!("::: a :::: {digits} ::: q"), b"", LINES),
            ["a|1|q", "a|2|q"]
        );
        assert_eq!(jobs(":::: - ::: a", b"1\n2\n", LINES), ["1|a", "2|a"]);
        assert_eq!(jobs("::: a b :::: -", b"", LINES), ["a|", "b|"]);
    }

    /// Lines without end, as `yes` prints them.
    struct Endless;

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(b'\n');
            Ok(buffer.len())
        }
    }

    #[test]
    fn the_first_source_streams() {
        let jobs = Jobs::open(vec![], LINES, BufReader::new(Endless)).unwrap();
        assert_eq!(jobs.total(), None);
        assert_eq!(jobs.take(100_000).last().unwrap().unwrap().seq, 100_000);
    }

    #[test]
    fn invalid_utf8_stays_as_it_is() {
        let mut jobs = Jobs::open(vec![], LINES, &b"\xff\xfe\n"[..]).unwrap();
        assert_eq!(
            jobs.next().unwrap().unwrap().args[0].as_encoded_bytes(),
            b"\xff\xfe"
        );
    }

    #[test]
    fn an_error_ends_the_jobs() {
        let mut jobs = Jobs::open(vec![], LINES, &b"a\nb\0c\nd\n"[..]).unwrap();
        assert_eq!(jobs.next().unwrap().unwrap().seq, 1);
        let error = jobs.next().unwrap().unwrap_err();
        assert!(matches!(error, InputError::Nul { line: 2, .. }), "{error}");
        assert!(jobs.next().is_none());
    }

    #[test]
    fn a_missing_file_and_a_second_stdin_are_refused_at_once() {
        let open = |sources| Jobs::open(sources, LINES, io::empty()).err().unwrap();
        let error = open(vec![Source::file("no/such/list")]);
        assert_eq!(
            error.to_string(),
            "could not open the input file no/such/list"
        );
        let error = open(vec![Source::file("-"), Source::file("-")]);
        assert!(matches!(error, InputError::StdinTwice));
        let error = open(vec![Source::file("-"), Source::file("/")]);
        assert!(matches!(error, InputError::Read { line: 1, .. }), "{error}");
    }
}
