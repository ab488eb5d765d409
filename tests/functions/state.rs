//! The whole state of a shard, exactly.

use std::collections::{BTreeMap, BTreeSet};

use redis::{Connection, Value};

use crate::call::{bytes, items, text};

/// What one key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    List(Vec<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    Sorted(BTreeMap<Vec<u8>, String>),
    Text(Vec<u8>),
    /// Entries with their number, and the field and value of each.
    Stream(Vec<(String, Vec<u8>, Vec<u8>)>),
}

/// Every key of a shard by the part of its name behind the hash tag, and when it expires (ms since the epoch).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State(pub(crate) BTreeMap<String, (Content, i64)>);

impl State {
    pub(crate) fn read(connection: &mut Connection, prefix: &str) -> Self {
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(format!("{prefix}*"))
            .query(connection)
            .unwrap();
        let kinds: Vec<String> = ask_each(connection, &keys, |_| &["TYPE"]);
        let expires: Vec<i64> = ask_each(connection, &keys, |_| &["PEXPIRETIME"]);
        let values: Vec<Value> = ask_each(connection, &keys, |i| reader(&kinds[i]));
        let contents = kinds.iter().zip(&values).map(|(kind, v)| content(kind, v));
        let parts = keys.iter().map(|key| key[prefix.len()..].to_owned());
        Self(parts.zip(contents.zip(expires)).collect())
    }

    pub(crate) fn hash(&self, part: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
        match self.0.get(part) {
            Some((Content::Hash(hash), _)) => hash.clone(),
            _ => BTreeMap::new(),
        }
    }

    pub(crate) fn list(&self, part: &str) -> Vec<Vec<u8>> {
        match self.0.get(part) {
            Some((Content::List(list), _)) => list.clone(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn sorted(&self, part: &str) -> BTreeMap<Vec<u8>, String> {
        match self.0.get(part) {
            Some((Content::Sorted(sorted), _)) => sorted.clone(),
            _ => BTreeMap::new(),
        }
    }

    pub(crate) fn set(&self, part: &str) -> BTreeSet<Vec<u8>> {
        match self.0.get(part) {
            Some((Content::Set(set), _)) => set.clone(),
            _ => BTreeSet::new(),
        }
    }

    /// What `meta` says of `name`.
    pub(crate) fn meta(&self, name: &str) -> Option<String> {
        let value = self.hash("meta").get(name.as_bytes()).cloned();
        value.map(|v| String::from_utf8(v).unwrap())
    }
}

/// Asks the same of every key, in one round trip: a command, the key, the command's other words.
fn ask_each<T: redis::FromRedisValue>(
    connection: &mut Connection,
    keys: &[String],
    words: impl Fn(usize) -> &'static [&'static str],
) -> Vec<T> {
    if keys.is_empty() {
        return Vec::new();
    }
    let mut pipe = redis::pipe();
    for (i, key) in keys.iter().enumerate() {
        let (command, rest) = words(i).split_first().expect("there is a command");
        pipe.cmd(command).arg(key).arg(rest);
    }
    pipe.query(connection).unwrap()
}

/// The command that reads a whole key of this type.
fn reader(kind: &str) -> &'static [&'static str] {
    match kind {
        "hash" => &["HGETALL"],
        "list" => &["LRANGE", "0", "-1"],
        "set" => &["SMEMBERS"],
        "zset" => &["ZRANGE", "0", "-1", "WITHSCORES"],
        "string" => &["GET"],
        "stream" => &["XRANGE", "-", "+"],
        other => panic!("no function makes a key of type {other}"),
    }
}

fn content(kind: &str, value: &Value) -> Content {
    if kind == "string" {
        return Content::Text(bytes(value));
    }
    if kind == "stream" {
        return Content::Stream(items(value).iter().map(entry).collect());
    }
    let all: Vec<Vec<u8>> = items(value).iter().map(bytes).collect();
    let pairs = || all.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone()));
    let score = |score: Vec<u8>| String::from_utf8(score).unwrap();
    match kind {
        "hash" => Content::Hash(pairs().collect()),
        "list" => Content::List(all),
        "set" => Content::Set(all.into_iter().collect()),
        _ => Content::Sorted(pairs().map(|(member, s)| (member, score(s))).collect()),
    }
}

fn entry(value: &Value) -> (String, Vec<u8>, Vec<u8>) {
    let entry = items(value);
    let fields = items(&entry[1]);
    (text(&entry[0]), bytes(&fields[0]), bytes(&fields[1]))
}
