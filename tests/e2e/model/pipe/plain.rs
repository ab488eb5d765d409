//! The pipe in memory: items of messages, who waits in which order, and who is in the middle of a message.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::Came;

/// Bytes of an item, as the protocol has it.
const ITEM: usize = 256 << 10;

/// An end, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Reader(usize),
    Writer(usize),
}

impl End {
    pub(super) fn writes(self) -> bool {
        matches!(self, Self::Writer(_))
    }
}

#[derive(Clone)]
struct Item {
    message: Bytes,
    size: usize,
    first: bool,
    last: bool,
}

/// What both must agree on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) bytes: usize,
    pub(super) items: usize,
    pub(super) reading: usize,
    pub(super) writing: usize,
    pub(super) holders: usize,
}

pub(super) struct Plain {
    capacity: usize,
    items: VecDeque<Item>,
    /// Who is in the middle of a message.
    reader: Option<End>,
    writer: Option<End>,
    /// The writer in the middle of a message stands still.
    stopped: bool,
    /// The rest of the message that is being written has no reader.
    skip: bool,
    readers: Vec<End>,
    writers: Vec<End>,
    reading: VecDeque<End>,
    writing: VecDeque<End>,
    /// What those that write have yet to write.
    rest: BTreeMap<End, VecDeque<Item>>,
    over: Vec<(End, Came)>,
}

impl Plain {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            items: VecDeque::new(),
            reader: None,
            writer: None,
            stopped: false,
            skip: false,
            readers: Vec::new(),
            writers: Vec::new(),
            reading: VecDeque::new(),
            writing: VecDeque::new(),
            rest: BTreeMap::new(),
            over: Vec::new(),
        }
    }

    pub(super) fn open(&mut self, end: End) {
        match end {
            End::Reader(_) => self.readers.push(end),
            End::Writer(_) => self.writers.push(end),
        }
    }

    pub(super) fn send(&mut self, end: End, message: &Bytes) {
        let room = ITEM - 5;
        let n = message.len().saturating_sub(1) / room;
        let items = (0..=n).map(|i| Item {
            size: message.len().min((i + 1) * room) - i * room + if i == 0 { 5 } else { 1 },
            first: i == 0,
            last: i == n,
            message: message.clone(),
        });
        self.rest.insert(end, items.collect());
        self.writing.push_back(end);
    }

    pub(super) fn recv(&mut self, end: End) {
        self.reading.push_back(end);
    }

    pub(super) fn ready(&self, end: End) -> bool {
        let turn = self.reader.is_none_or(|reader| reader == end);
        !self.items.is_empty() && turn || self.items.is_empty() && self.writers.is_empty()
    }

    /// A reader keeps what it has read of a message; a writer takes its message back.
    pub(super) fn cancel(&mut self, end: End) {
        self.reading.retain(|e| *e != end);
        self.writing.retain(|e| *e != end);
        self.rest.remove(&end);
        if self.writer == Some(end) {
            self.writer = None;
            self.stopped = false;
            let mut kept = std::mem::take(&mut self.skip);
            while !kept && self.items.back().is_some_and(|item| !item.last) {
                kept = self.items.pop_back().is_some_and(|item| item.first);
            }
        }
    }

    pub(super) fn close(&mut self, end: End) {
        self.cancel(end);
        if self.reader == Some(end) {
            self.reader = None;
            let mut ended = false;
            while !ended && self.items.front().is_some_and(|item| !item.first) {
                ended = self.items.pop_front().is_some_and(|item| item.last);
            }
            self.skip = !ended && self.items.is_empty() && self.writer.is_some();
        }
        self.readers.retain(|e| *e != end);
        self.writers.retain(|e| *e != end);
        if self.readers.is_empty() {
            self.items.clear();
        }
    }

    /// Has the writer in the middle of a message stand still, or go on; answers who that is.
    pub(super) fn stop(&mut self, stopped: bool) -> Option<End> {
        self.stopped = stopped && self.writer.is_some();
        self.writer
    }

    fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.size).sum()
    }

    /// Goes on for as long as anybody can. Answers which calls are over, and what they came to.
    pub(super) fn settle(&mut self) -> Vec<(End, Came)> {
        while self.read() || self.write() {}
        std::mem::take(&mut self.over)
    }

    fn read(&mut self) -> bool {
        let waits = |end: &End| self.reading.contains(end);
        let next = match self.reader {
            Some(reader) => Some(reader).filter(waits),
            None => self.reading.front().copied(),
        };
        if let Some(end) = next
            && let Some(item) = self.items.pop_front()
        {
            self.reader = (!item.last).then_some(end);
            if item.last {
                self.reading.retain(|e| *e != end);
                self.over.push((end, Came::Got(item.message)));
            }
            return true;
        }
        if self.items.is_empty() && self.writers.is_empty() {
            self.reader = self.reader.filter(|reader| !self.reading.contains(reader));
            let ended = self.reading.drain(..).map(|end| (end, Came::Eof));
            self.over.extend(ended);
        }
        false
    }

    fn write(&mut self) -> bool {
        if self.readers.is_empty() {
            self.writer = self.writer.filter(|_| self.stopped);
            let stays = |end: &End| self.writer == Some(*end);
            let (stay, closed) = self.writing.drain(..).partition(stays);
            self.writing = stay;
            let closed = VecDeque::into_iter(closed).map(|end| (end, Came::Closed));
            self.over.extend(closed);
        }
        if self.stopped {
            return false;
        }
        let Some(end) = self.writer.or(self.writing.front().copied()) else {
            return false;
        };
        let (used, rest) = (self.bytes(), self.rest.get_mut(&end).unwrap());
        let fits = used == 0 || used + rest[0].size <= self.capacity;
        if !fits && !self.skip {
            return false;
        }
        let item = rest.pop_front().unwrap();
        self.writer = (!item.last).then_some(end);
        if item.last {
            self.writing.retain(|e| *e != end);
            self.over.push((end, Came::Sent));
        }
        if !self.skip {
            self.items.push_back(item);
        } else if item.last {
            self.skip = false;
        }
        true
    }

    pub(super) fn state(&self) -> State {
        State {
            bytes: self.bytes(),
            items: self.items.len(),
            reading: self.reading.len(),
            writing: self.writing.len(),
            holders: self.readers.len() + self.writers.len(),
        }
    }
}
