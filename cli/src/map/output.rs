//! The output of a job: kept together, and each line with the job's tag in front if asked for.
use std::io::{self, Write};

use super::input::Job;
use super::pattern::{Part, Pattern};
use super::template::TemplateError;

/// What a job printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Output<'a> {
    /// Its standard output.
    pub stdout: &'a [u8],
    /// Its standard error.
    pub stderr: &'a [u8],
}

impl Output<'_> {
    /// Writes the standard output to `out`, then the standard error to `err`, with `prefix` in
    /// front of each line. Nothing is added at the end of a last line that has no newline.
    pub fn write(
        &self,
        prefix: &[u8],
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> io::Result<()> {
        write_lines(self.stdout, prefix, out)?;
        // Both often go to one terminal, where the order must be seen.
        out.flush()?;
        write_lines(self.stderr, prefix, err)?;
        err.flush()
    }
}

fn write_lines(text: &[u8], prefix: &[u8], out: &mut impl Write) -> io::Result<()> {
    if prefix.is_empty() {
        return out.write_all(text);
    }
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        out.write_all(prefix)?;
        out.write_all(line)?;
    }
    Ok(())
}

/// What stands in front of each line of a job's output: `--tag`, `--tagstring`.
#[derive(Debug, Clone)]
pub struct Tag {
    pattern: Pattern,
}

impl Tag {
    /// `--tag`: the job's arguments, joined by spaces.
    pub fn arguments() -> Result<Self, TemplateError> {
        Self::string("{}")
    }

    /// `--tagstring`: a text with the replacement strings of a command, and `\t` for a tab.
    /// An empty text is no tag.
    pub fn string(text: impl AsRef<[u8]>) -> Result<Self, TemplateError> {
        Ok(Self {
            pattern: Pattern::parse(&with_tabs(text.as_ref()))?,
        })
    }

    /// The prefix for `job`'s lines, with the tab that ends it.
    #[must_use]
    pub fn prefix(&self, job: &Job) -> Vec<u8> {
        if self.pattern.pieces.is_empty() {
            return Vec::new();
        }
        let mut prefix = Vec::new();
        self.pattern.fill(job, |part| match part {
            Part::Text(bytes) | Part::Value(bytes) => prefix.extend_from_slice(bytes),
            Part::Gap => prefix.push(b' '),
        });
        prefix.push(b'\t');
        prefix
    }
}

fn with_tabs(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return out,
            [b'\\', b't', tail @ ..] => {
                out.push(b'\t');
                tail
            }
            [byte, tail @ ..] => {
                out.push(*byte);
                tail
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::BufWriter;

    use super::*;

    fn job(args: &[&str]) -> Job {
        Job {
            seq: 2,
            args: args.iter().map(Into::into).collect(),
        }
    }

    fn tagged(stdout: &str, prefix: &str) -> String {
        let output = Output {
            stdout: stdout.as_bytes(),
            stderr: b"",
        };
        let mut out = Vec::new();
        output
            .write(prefix.as_bytes(), &mut out, &mut io::sink())
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_line_gets_the_tag_and_nothing_else_changes() {
        assert_eq!(tagged("a\n\nb\n", "q\t"), "q\ta\nq\t\nq\tb\n");
        assert_eq!(tagged("noeol", "a\t"), "a\tnoeol");
        assert_eq!(tagged("", "a\t"), "");
        assert_eq!(tagged("a\nb", ""), "a\nb");
    }

    #[test]
    fn stdout_comes_before_stderr_and_both_are_tagged() {
        let output = Output {
            stdout: b"out\n",
            stderr: b"err\n",
        };
        let mut err = Vec::new();
        let mut out = Vec::new();
        output.write(b"a\t", &mut out, &mut err).unwrap();
        assert_eq!((&out[..], &err[..]), (&b"a\tout\n"[..], &b"a\terr\n"[..]));

        let both = RefCell::new(Vec::new());
        let mut buffered = BufWriter::new(Shared(&both));
        output
            .write(b"", &mut buffered, &mut Shared(&both))
            .unwrap();
        drop(buffered);
        assert_eq!(both.into_inner(), b"out\nerr\n");
    }

    /// One end of a terminal that takes both outputs.
    struct Shared<'a>(&'a RefCell<Vec<u8>>);

    impl Write for Shared<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn tags_are_those_of_gnu_parallel() {
        let cases: [(&str, &[&str], &str); 9] = [
            ("{}", &["a", "1"], "a 1\t"),
            ("{}", &["it's"], "it's\t"),
            ("{}", &[""], "\t"),
            ("{#}-{.}", &["b.y"], "2-b\t"),
            ("job", &["a.x"], "job\t"),
            ("{1} {2}", &["a b", "c"], "a b c\t"),
            ("{//}", &["a b/c"], "a b\t"),
            (r"a\tb{}", &["x"], "a\tbx\t"),
            ("", &["a"], ""),
        ];
        for (text, args, expected) in cases {
            let prefix = Tag::string(text).unwrap().prefix(&job(args));
            assert_eq!(String::from_utf8(prefix).unwrap(), expected, "{text}");
        }
        let all = Tag::arguments().unwrap().prefix(&job(&["a", "b"]));
        assert_eq!(all, b"a b\t");
    }

    #[test]
    fn the_slot_is_refused() {
        assert_eq!(Tag::string("{%}").unwrap_err(), TemplateError::Slot);
    }
}
