//! A store that refuses an older fence, and keeps books on who believed when that it held the lock.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What the store knows.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) value: u64,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    /// The newest that it has seen.
    fence: u64,
    /// The process that read last.
    pub(super) last: usize,
    /// The processes that ever read.
    pub(super) counted: BTreeSet<usize>,
    /// fence -> when its holder first and last knew that it held the lock (µs).
    pub(super) spans: BTreeMap<u64, (i64, i64)>,
}

impl Books {
    /// A read counts as a sight of the fence: an older holder may not write what a newer one does not know.
    fn read(&mut self, fence: u64, reader: usize) -> Option<u64> {
        if !self.admits(fence) {
            return None;
        }
        self.last = reader;
        self.counted.insert(reader);
        Some(self.value)
    }

    fn write(&mut self, fence: u64, value: u64) -> bool {
        let is_accepted = self.admits(fence);
        if is_accepted {
            self.value = value;
            self.accepted += 1;
        } else {
            self.refused += 1;
        }
        is_accepted
    }

    fn admits(&mut self, fence: u64) -> bool {
        let is_newest = fence >= self.fence;
        self.fence = self.fence.max(fence);
        is_newest
    }

    fn held(&mut self, fence: u64, at: i64) {
        let span = self.spans.entry(fence).or_insert((at, at));
        *span = (span.0.min(at), span.1.max(at));
    }

    /// Does what a line says; answers where there is something to answer.
    fn obey(&mut self, line: &str) -> Option<String> {
        let mut words = line.split(' ');
        let verb = words.next()?;
        let fence = words.next()?.parse().ok()?;
        let word = words.next()?;
        match verb {
            "held" => {
                self.held(fence, word.parse().ok()?);
                None
            }
            "read" => Some(match self.read(fence, word.parse().ok()?) {
                Some(value) => value.to_string(),
                None => "stale".into(),
            }),
            _ => Some(self.write(fence, word.parse().ok()?).to_string()),
        }
    }
}

/// The store, in this process.
pub(super) struct Store {
    address: String,
    books: Arc<Mutex<Books>>,
}

impl Store {
    pub(super) fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let store = Self {
            address: listener.local_addr().unwrap().to_string(),
            books: Arc::default(),
        };
        let books = store.books.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let books = books.clone();
                thread::spawn(move || serve(client, &books));
            }
        });
        store
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn books<T>(&self, read: impl FnOnce(&Books) -> T) -> T {
        read(&self.books.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn serve(client: TcpStream, books: &Mutex<Books>) {
    client.set_nodelay(true).unwrap();
    let mut answers = client.try_clone().unwrap();
    for line in BufReader::new(client).lines().map_while(Result::ok) {
        let answer = books
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .obey(&line);
        if let Some(answer) = answer
            && answers.write_all(format!("{answer}\n").as_bytes()).is_err()
        {
            return;
        }
    }
}

/// A process's way to the store.
pub(super) struct Client {
    requests: TcpStream,
    answers: BufReader<TcpStream>,
}

impl Client {
    pub(super) fn connect(address: &str) -> Self {
        let requests = TcpStream::connect(address).unwrap();
        requests.set_nodelay(true).unwrap();
        Self {
            answers: BufReader::new(requests.try_clone().unwrap()),
            requests,
        }
    }

    /// That this fence was held at this time, by all that its holder knew.
    pub(super) fn say_that_held(&mut self, fence: u64, at: i64) {
        writeln!(self.requests, "held {fence} {at}").unwrap();
    }

    /// The value; nothing where the fence is old.
    pub(super) fn read(&mut self, fence: u64, reader: usize) -> Option<u64> {
        self.ask(&format!("read {fence} {reader}")).parse().ok()
    }

    /// Whether it was accepted.
    pub(super) fn write(&mut self, fence: u64, value: u64) -> bool {
        self.ask(&format!("write {fence} {value}")) == "true"
    }

    fn ask(&mut self, request: &str) -> String {
        self.requests
            .write_all(format!("{request}\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}
