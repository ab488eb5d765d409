//! The whole state of a shard, exactly.

use std::collections::{BTreeMap, BTreeSet};

use redis::{Connection, Value};

use crate::call::{bytes, items};

/// What one key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    List(Vec<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    Sorted(BTreeMap<Vec<u8>, String>),
    Text(Vec<u8>),
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
        let read = |key: String| {
            let expires = redis::cmd("PEXPIRETIME").arg(&key).query(connection);
            let content = read_key(connection, &key);
            (key[prefix.len()..].to_owned(), (content, expires.unwrap()))
        };
        Self(keys.into_iter().map(read).collect())
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

fn read_key(connection: &mut Connection, key: &str) -> Content {
    let mut ask = |words: &[&str]| -> Value {
        redis::cmd(words[0])
            .arg(&words[1..])
            .query(connection)
            .unwrap()
    };
    let kind = bytes(&ask(&["TYPE", key]));
    let pairs = |value: Value| {
        let values: Vec<Vec<u8>> = items(&value).iter().map(bytes).collect();
        values
            .chunks(2)
            .map(|p| (p[0].clone(), p[1].clone()))
            .collect::<Vec<_>>()
    };
    let all = |value: Value| items(&value).iter().map(bytes).collect::<Vec<_>>();
    match kind.as_slice() {
        b"hash" => Content::Hash(pairs(ask(&["HGETALL", key])).into_iter().collect()),
        b"list" => Content::List(all(ask(&["LRANGE", key, "0", "-1"]))),
        b"set" => Content::Set(all(ask(&["SMEMBERS", key])).into_iter().collect()),
        b"zset" => {
            let pairs = pairs(ask(&["ZRANGE", key, "0", "-1", "WITHSCORES"]));
            let score = |s: Vec<u8>| String::from_utf8(s).unwrap();
            Content::Sorted(pairs.into_iter().map(|(m, s)| (m, score(s))).collect())
        }
        b"string" => Content::Text(bytes(&ask(&["GET", key]))),
        other => panic!("{key} has type {}", String::from_utf8_lossy(other)),
    }
}
