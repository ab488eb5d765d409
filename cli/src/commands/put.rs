//! `pmq put`: items into a plain queue.

use std::ffi::OsString;
use std::io::{self, BufRead, Read};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use pmq_broker::queue::ITEM_LIMIT;
use pmq_broker::{Name, PutError, RawQueue};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::context::Context;
use crate::duration;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::plural::counted;

const AFTER_HELP: &str = "\
An item is its text, as it is; a Rust `Queue<T>` reads it where it is the JSON of a T. With --json the text is put as a \
JSON string, which is what a `Queue<String>` reads. An item has at most 16 MiB; those that begin with `-` go behind `--`.

--maxsize bounds the queue; the first who uses the queue fixes it, and a call without it takes whichever there is.

Exit codes: 0 all were put; 75 there was no room (--nowait), 124 none came in time (--timeout): standard error says how \
many were put; 1 failed, also where the queue has another maxsize.

Examples:
  pmq put fruit apple banana
  pmq put numbers -- -1 --x
  pmq put fruit cherry --maxsize 100 --timeout 10s
  find . -name '*.png' | pmq put images -
  pmq get fruit";

/// Lines that are read ahead of what the broker has taken.
const READ_AHEAD: usize = 1000;
/// Items that are put at once.
const BATCH: usize = 500;

/// Put items into a queue, waiting for room.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Put {
    /// The queue
    #[arg(value_name = "NAME")]
    queue: Name,

    /// The items; `-` alone takes each line of standard input
    #[arg(value_name = "ITEM", required = true, allow_negative_numbers = true)]
    items: Vec<OsString>,

    /// The most items that the queue holds; 0 for no bound
    #[arg(long, value_name = "N")]
    maxsize: Option<u64>,

    /// Do not wait for room
    #[arg(long, conflicts_with = "timeout")]
    nowait: bool,

    /// Wait no longer than this for room
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    timeout: Option<Duration>,
}

impl Put {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let json = context.output.is_json();
        let broker = context.connect().await?;
        let mut queue = broker.raw_queue(&self.queue);
        if let Some(n) = self.maxsize {
            queue = queue.maxsize(n);
        }
        let mut putter = Putter {
            queue,
            deadline: self.deadline(),
            late: self.timeout.map_or(Exit::TRY_AGAIN, |_| Exit::TIMED_OUT),
            put: 0,
        };
        if self.items.len() == 1 && self.items[0] == "-" {
            putter.put_lines(json).await?;
        } else {
            let items = self.items.into_iter();
            let items = items.map(|item| item_of(item.into_vec(), json));
            putter.put(items.collect::<anyhow::Result<_>>()?).await?;
        }
        Ok(Exit::OK)
    }

    fn deadline(&self) -> Option<Instant> {
        let timeout = self.timeout.or(self.nowait.then_some(Duration::ZERO));
        timeout.map(|timeout| Instant::now() + timeout)
    }
}

/// Puts items until the time is over.
struct Putter {
    queue: RawQueue,
    deadline: Option<Instant>,
    /// How it ends where there was no room until then.
    late: Exit,
    put: usize,
}

impl Putter {
    async fn put(&mut self, items: Vec<Bytes>) -> anyhow::Result<()> {
        let count = items.len();
        let left = self.deadline.map_or(Duration::MAX, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        match self.queue.put_many_timeout(items, left).await {
            Ok(()) => {
                self.put += count;
                Ok(())
            }
            Err(PutError::Full(rest)) => {
                self.put += count - rest.len();
                Err(Failure::new(
                    self.late,
                    format!(
                        "queue {} is full: put {}",
                        self.queue.name(),
                        counted(self.put as u64, "item")
                    ),
                )
                .with_hint("`pmq get` makes room; without --nowait and --timeout, put waits for it")
                .into())
            }
            Err(PutError::Broker { source, .. }) => Err(source.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts the lines of standard input, each as soon as it is there.
    async fn put_lines(&mut self, json: bool) -> anyhow::Result<()> {
        let (sender, mut lines) = mpsc::channel(READ_AHEAD);
        // A thread of its own, as a read from a terminal can't be interrupted; it ends with the process.
        std::thread::spawn(move || read_lines(&mut io::stdin().lock(), &sender));
        let mut batch = Vec::new();
        while lines.recv_many(&mut batch, BATCH).await > 0 {
            let items = batch.drain(..).map(|line| item_of(line?, json));
            let items = items.collect::<anyhow::Result<_>>()?;
            self.put(items).await?;
        }
        Ok(())
    }
}

/// Reads lines until the end, or until nobody wants more. One that is too long for an item ends the reading.
fn read_lines(input: &mut impl BufRead, lines: &mpsc::Sender<io::Result<Vec<u8>>>) {
    loop {
        let mut line = Vec::new();
        let limit = ITEM_LIMIT as u64 + 2;
        let read = input.by_ref().take(limit).read_until(b'\n', &mut line);
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        let ends = !matches!(read, Ok(1..)) || line.len() > ITEM_LIMIT;
        let nothing = matches!(read, Ok(0));
        if nothing || lines.blocking_send(read.map(|_| line)).is_err() || ends {
            return;
        }
    }
}

/// The item that a text is put as.
fn item_of(text: Vec<u8>, json: bool) -> anyhow::Result<Bytes> {
    if !json {
        return Ok(text.into());
    }
    let text = String::from_utf8(text)
        .map_err(|_| Failure::usage("an item is not UTF-8, so it can't be a JSON string"))?;
    Ok(serde_json::to_vec(&text)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_item_also_without_its_end() {
        let (sender, mut lines) = mpsc::channel(10);
        read_lines(&mut &b"a\n\nb\r\nc"[..], &sender);
        drop(sender);
        let mut read = Vec::new();
        while let Some(line) = lines.blocking_recv() {
            read.push(line.unwrap());
        }
        assert_eq!(read, [&b"a"[..], b"", b"b\r", b"c"]);
    }

    #[test]
    fn json_makes_a_string_of_the_text() {
        assert_eq!(item_of(b"7".to_vec(), false).unwrap(), "7");
        assert_eq!(item_of(b"a\"b".to_vec(), true).unwrap(), r#""a\"b""#);
        assert!(item_of(b"\xff".to_vec(), true).is_err());
    }
}
