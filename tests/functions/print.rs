//! A shard's state as lines in which ids, tokens and times can be read.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use pmq_broker::{Completion, TaskId};

use crate::state::{Content, State};

/// Prints states so that two of one shard can be compared: tokens and buckets are numbered as they appear, times are
/// relative to now, rounded up to 10 s.
#[derive(Default)]
pub(crate) struct Printer {
    tokens: RefCell<Vec<u64>>,
    buckets: RefCell<Vec<u64>>,
}

fn numbered(letter: char, known: &RefCell<Vec<u64>>, number: u64) -> String {
    let mut known = known.borrow_mut();
    let at = known.iter().position(|k| *k == number).unwrap_or_else(|| {
        known.push(number);
        known.len() - 1
    });
    format!("{letter}{}", at + 1)
}

/// An id or incarnation of the tests is a word, padded with dots.
fn word(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_end_matches('.').to_owned()
}

fn words<'a>(list: impl IntoIterator<Item = &'a Vec<u8>>) -> String {
    let words: Vec<String> = list.into_iter().map(|id| word(id)).collect();
    words.join(" ")
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().unwrap()
}

impl Printer {
    /// One line a list, one a field or member of everything else.
    pub(crate) fn lines(&self, state: &State, now_ms: u64) -> Vec<String> {
        self.register_numbers(state);
        let mut lines = Vec::new();
        for (part, (content, expires)) in &state.0 {
            let printed = match content {
                Content::List(list) => vec![format!("{part}: {}", self.list(part, list))],
                Content::Set(set) => vec![format!("{part}: {}", words(set))],
                Content::Text(text) => vec![format!("{part}: text {}", word(text))],
                Content::Sorted(sorted) => sorted
                    .iter()
                    .map(|(id, score)| {
                        format!("{part} {}: {}", word(id), score_text(score, now_ms))
                    })
                    .collect(),
                Content::Stream(entries) => entries.iter().map(|e| entry(part, e)).collect(),
                Content::Hash(hash) => self.hash(part, hash, now_ms),
            };
            lines.extend(printed);
            if *expires > 0 {
                let part = self.part(part);
                lines.push(format!("{part} expires {}", time(*expires as f64, now_ms)));
            }
        }
        lines
    }

    fn register_numbers(&self, state: &State) {
        let mut tokens: Vec<u64> = Vec::new();
        for value in state.hash("running").values() {
            tokens.push(u64::from_le_bytes(number(value, 16)));
        }
        for row in state.hash("attempts").values() {
            tokens.push(u64::from_le_bytes(number(row, 4)));
        }
        if let Some(token) = state.meta("token") {
            tokens.push(token.parse().unwrap());
        }
        tokens.sort_unstable();
        for token in tokens.into_iter().filter(|token| *token > 0) {
            numbered('T', &self.tokens, token);
        }
        let buckets = state.meta("buckets").unwrap_or_default();
        let mut buckets: Vec<u64> = buckets.split(',').filter_map(|b| b.parse().ok()).collect();
        buckets.sort_unstable();
        for bucket in buckets {
            numbered('B', &self.buckets, bucket);
        }
    }

    fn token(&self, token: u64) -> String {
        if token == 0 {
            return String::new();
        }
        format!(" {}", numbered('T', &self.tokens, token))
    }

    fn part(&self, part: &str) -> String {
        match part.strip_prefix("results:") {
            Some(bucket) => self.bucket(bucket),
            None => part.to_owned(),
        }
    }

    fn bucket(&self, name: &str) -> String {
        name.parse()
            .map_or_else(|_| name.to_owned(), |n| numbered('B', &self.buckets, n))
    }

    fn list(&self, part: &str, list: &[Vec<u8>]) -> String {
        if part.starts_with("wake") {
            return list.len().to_string();
        }
        if part.starts_with("done:") {
            let all: Vec<String> = list.iter().map(|c| self.posted(c)).collect();
            return all.join(", ");
        }
        words(list)
    }

    fn posted(&self, completion: &[u8]) -> String {
        let decoded = Completion::decode_posted(&Bytes::copy_from_slice(completion));
        match decoded {
            Ok(c) => format!("{} {}", word(c.id.as_bytes()), self.completion(&c)),
            Err(_) => word(completion),
        }
    }

    fn completion(&self, c: &Completion) -> String {
        let error = c.report.error.as_ref();
        let error = error.map_or_else(String::new, |e| format!(" ({e})"));
        format!("{}{}{error}", c.outcome.as_str(), self.token(c.token))
    }

    fn hash(&self, part: &str, hash: &BTreeMap<Vec<u8>, Vec<u8>>, now_ms: u64) -> Vec<String> {
        let line = |(field, value): (&Vec<u8>, &Vec<u8>)| {
            let text = match part {
                "meta" => self.setting(&word(field), value, now_ms),
                "tasks" => String::new(),
                "running" => self.running(value),
                "claims" => self.log(value),
                "attempts" => self.attempts(value, now_ms),
                "cancels" => orders(value),
                "started" | "log.sizes" => word(value),
                _ => self.record(field, value),
            };
            let line = format!("{} {}: {}", self.part(part), word(field), text.trim());
            line.trim_end_matches(": ").to_owned()
        };
        hash.iter().map(line).collect()
    }

    fn setting(&self, name: &str, value: &[u8], now_ms: u64) -> String {
        let text = word(value);
        match name {
            "token" => self.token(text.parse().unwrap()),
            "seen" | "grace" | "waiter_until" => time(text.parse().unwrap(), now_ms),
            "buckets" => {
                let names: Vec<String> = text.split(',').map(|b| self.bucket(b)).collect();
                names.join(" ")
            }
            "run" => "run".to_owned(),
            _ => text,
        }
    }

    fn running(&self, value: &[u8]) -> String {
        let base = 25 + usize::from(value[24]);
        let token = self.token(u64::from_le_bytes(number(value, 16)));
        let mut text = format!("{}{token}", word(&value[..16]));
        if base > 25 {
            let _ = write!(text, " to {}", word(&value[25..base]));
        }
        if value.len() > base {
            let flags = u16::from_le_bytes(number(value, base + 2));
            let _ = write!(text, " run {}", u16::from_le_bytes(number(value, base)));
            text += if flags & 0x4000 == 0 { "" } else { " suspect" };
            text += if flags & 0x8000 == 0 { "" } else { " orphan" };
        }
        text
    }

    fn log(&self, log: &[u8]) -> String {
        let n = u32::from_le_bytes(number(log, 0));
        let rest = &log[if log[4] == b'o' { 5 } else { 13 }..];
        match log[4] {
            b'w' => {
                let ids: Vec<Vec<u8>> = rest.chunks(16).map(<[u8]>::to_vec).collect();
                format!("claim {n} {}", words(&ids))
            }
            b'i' => format!("claim {n} idle"),
            b'o' => format!("owner of {}", word(rest)),
            b'c' => {
                let name = 1 + usize::from(rest[0]);
                let (mut at, mut text) = (name, format!("take {n} {}", word(&rest[1..name])));
                while at < rest.len() {
                    let size = u32::from_le_bytes(number(rest, at)) as usize;
                    let _ = write!(text, ", {}", self.posted(&rest[at + 4..at + 4 + size]));
                    at += 4 + size;
                }
                text
            }
            other => panic!("a log of kind {other}"),
        }
    }

    fn attempts(&self, row: &[u8], now_ms: u64) -> String {
        let field = |at| u16::from_le_bytes(number(row, at));
        let token = self.token(u64::from_le_bytes(number(row, 4)));
        let refused = u64::from_le_bytes(number(row, 12));
        let mut text = format!("failed {} crashed {}{token}", field(0), field(2));
        if refused > 0 {
            let _ = write!(
                text,
                " refused {} since {}",
                field(20),
                time(refused as f64, now_ms)
            );
        }
        text
    }

    fn record(&self, id: &[u8], record: &[u8]) -> String {
        if id.len() == 8 {
            let last = record[8..].try_into().unwrap();
            return format!("call {}", u64::from_be_bytes(last));
        }
        let id = TaskId::from_slice(id).unwrap_or_default();
        match Completion::decode(id, &Bytes::copy_from_slice(record)) {
            Ok(c) if record.len() == 22 => format!("{} (verdict)", self.completion(&c)),
            Ok(c) => self.completion(&c),
            Err(_) => word(record),
        }
    }
}

fn orders(orders: &[u8]) -> String {
    let order = |o: &[u8]| format!("{} {}", word(&o[..16]), o[16]);
    orders.chunks(17).map(order).collect::<Vec<_>>().join(", ")
}

/// An entry of a log; a long piece is told by its length.
fn entry(part: &str, (number, stream, bytes): &(String, Vec<u8>, Vec<u8>)) -> String {
    let text = match bytes.len() {
        0..=20 => word(bytes),
        long => format!("{long} bytes"),
    };
    format!("{part} {number}: {} {text}", word(stream))
        .trim_end()
        .to_owned()
}

/// A score: a turn of the walk where it is negative, else a time, and a priority where it keeps one.
fn score_text(score: &str, now_ms: u64) -> String {
    let score: f64 = score.parse().unwrap();
    if score < 0.0 {
        return format!("ended, turn {}", -score);
    }
    let priority = score.fract() * 16.0;
    let at = time(score.floor(), now_ms);
    if priority > 0.0 {
        format!("{at} p{priority}")
    } else {
        at
    }
}

fn time(ms: f64, now_ms: u64) -> String {
    let tens = ((ms - now_ms as f64) / 10_000.0).ceil() as i64;
    match tens {
        0 => "now".to_owned(),
        _ => format!("{:+}s", tens * 10),
    }
}

/// The lines that went (`-`) and came (`+`).
pub(crate) fn changes(before: &[String], after: &[String]) -> Vec<String> {
    let gone = before.iter().filter(|l| !after.contains(l));
    let come = after.iter().filter(|l| !before.contains(l));
    gone.map(|l| format!("- {l}"))
        .chain(come.map(|l| format!("+ {l}")))
        .collect()
}
