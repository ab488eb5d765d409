//! The lines of a file or of standard input, in chunks as they come.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::thread;

use anyhow::Context as _;
use pmq_broker::task::BODY_LIMIT;
use pmq_broker::task_queue::{CHUNK, CHUNK_BYTES};
use tokio::sync::mpsc;

use crate::failure::Failure;

/// The longest line: the largest body, and as much again for what JSON makes of it.
const LINE_LIMIT: u64 = 2 * BODY_LIMIT as u64;
/// Chunks that wait while one is submitted.
const AHEAD: usize = 2;

/// A line without its line break.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// 1 for the first.
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
}

/// Lines that a thread of their own reads, so that a slow input holds up nothing else.
pub(super) struct Input {
    chunks: mpsc::Receiver<io::Result<Vec<Line>>>,
    /// The size of the input in bytes, where it is known.
    pub(super) size: Option<u64>,
}

impl Input {
    /// Opens a file, or standard input for `-`.
    pub(super) fn open(path: &str) -> anyhow::Result<Self> {
        if path == "-" {
            return Ok(Self::read(io::stdin(), None));
        }
        let failed = |error| Failure::usage(format!("could not read {path}: {error}"));
        let file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        Ok(Self::read(file, about.is_file().then_some(about.len())))
    }

    fn read(input: impl Read + Send + 'static, size: Option<u64>) -> Self {
        let (sender, chunks) = mpsc::channel(AHEAD);
        // Not one of the runtime's threads: at its end it would wait for this one to read on.
        thread::spawn(move || {
            let mut lines = Lines::new(input);
            loop {
                let chunk = lines.chunk();
                let last = !matches!(&chunk, Ok(lines) if !lines.is_empty());
                let wanted = matches!(&chunk, Ok(lines) if lines.is_empty())
                    || sender.blocking_send(chunk).is_ok();
                if last || !wanted {
                    return;
                }
            }
        });
        Self { chunks, size }
    }

    /// The next lines, at least one; `None` at the end.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Vec<Line>>> {
        let chunk = self.chunks.recv().await.transpose();
        chunk.context("could not read the input")
    }
}

struct Lines<R> {
    input: BufReader<R>,
    number: u64,
}

impl<R: Read> Lines<R> {
    fn new(input: R) -> Self {
        Self {
            input: BufReader::with_capacity(256 << 10, input),
            number: 0,
        }
    }

    /// What there is without waiting for more, at most a call's worth, but at least one line; none at the end.
    fn chunk(&mut self) -> io::Result<Vec<Line>> {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while chunk.len() < CHUNK && bytes < CHUNK_BYTES {
            if !chunk.is_empty() && !self.input.buffer().contains(&b'\n') {
                break;
            }
            let Some(line) = self.line()? else {
                break;
            };
            bytes += line.bytes.len();
            chunk.push(line);
        }
        Ok(chunk)
    }

    fn line(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        (&mut self.input)
            .take(LINE_LIMIT)
            .read_until(b'\n', &mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        let ended = bytes.pop_if(|last| *last == b'\n').is_some();
        if !ended && bytes.len() as u64 == LINE_LIMIT {
            return Err(io::Error::other(format!(
                "line {} is longer than {LINE_LIMIT} bytes",
                self.number
            )));
        }
        Ok(Some(Line {
            number: self.number,
            bytes,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(chunk: &[Line]) -> Vec<&str> {
        chunk
            .iter()
            .map(|line| std::str::from_utf8(&line.bytes).unwrap())
            .collect()
    }

    #[test]
    fn the_last_line_needs_no_line_break() {
        for input in ["a\n\nb", "a\n\nb\n"] {
            let mut lines = Lines::new(input.as_bytes());
            let mut all = lines.chunk().unwrap();
            all.extend(lines.chunk().unwrap());
            assert_eq!(texts(&all), ["a", "", "b"]);
            assert_eq!(all[2].number, 3);
            assert!(lines.chunk().unwrap().is_empty());
        }
    }

    #[test]
    fn a_chunk_is_a_calls_worth() {
        let input = b"x\n".repeat(CHUNK + 1);
        let mut lines = Lines::new(&input[..]);
        assert_eq!(lines.chunk().unwrap().len(), CHUNK);
        assert_eq!(lines.chunk().unwrap().len(), 1);
    }

    #[test]
    fn what_is_there_is_not_held_back() {
        struct Slow(Vec<&'static [u8]>);
        impl Read for Slow {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let part = if self.0.is_empty() {
                    &b""[..]
                } else {
                    self.0.remove(0)
                };
                buffer[..part.len()].copy_from_slice(part);
                Ok(part.len())
            }
        }
        let mut lines = Lines::new(Slow(vec![b"a\nb\nc", b"c\n", b"d"]));
        assert_eq!(texts(&lines.chunk().unwrap()), ["a", "b"]);
        assert_eq!(texts(&lines.chunk().unwrap()), ["cc"]);
        assert_eq!(texts(&lines.chunk().unwrap()), ["d"]);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::new(io::repeat(b'x'));
        assert!(
            lines
                .chunk()
                .unwrap_err()
                .to_string()
                .contains("line 1 is longer")
        );
    }
}
