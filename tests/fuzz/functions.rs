//! The functions: whatever a call's arguments are, it does all that it should or fails and changes nothing, and after it
//! the object can be used as before. The calls are those of the exercises, made again one by one with some changes.

use std::collections::{BTreeMap, BTreeSet};

use pmq_broker::functions::{LIBRARY, SOURCE};
use pmq_tests::RedisServer;
use pmq_tests::fuzz::{Splice, fuzz, splice};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use redis::{Connection, RedisResult, Value};

use crate::exercise::EXERCISES;
use crate::liar::Liar;
use crate::replies::connect;

/// What a number, a name or an id is not.
const WORDS: [&str; 18] = [
    "",
    "nan",
    "-nan",
    "inf",
    "-inf",
    "1e308",
    "-1",
    "-0",
    "0",
    "0x10",
    "1.5",
    " 7",
    "4294967296",
    "9007199254740993",
    "18446744073709551616",
    "................",
    "%s%n",
    "\0",
];

/// A call as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    function: Vec<u8>,
    pub(crate) keys: Vec<Vec<u8>>,
    arguments: Vec<Vec<u8>>,
}

impl Sent {
    fn read(words: &[Vec<u8>]) -> Option<Self> {
        if words.first()? != b"FCALL" {
            return None;
        }
        let keys: usize = std::str::from_utf8(&words[2]).unwrap().parse().unwrap();
        Some(Self {
            function: words[1].clone(),
            keys: words[3..3 + keys].to_vec(),
            arguments: words[3 + keys..].to_vec(),
        })
    }

    pub(crate) fn verb(&self) -> String {
        let function = String::from_utf8_lossy(&self.function);
        function[LIBRARY.len() + 1..].to_owned()
    }

    pub(crate) fn send(&self, connection: &mut Connection) -> RedisResult<Value> {
        redis::cmd("FCALL")
            .arg(&self.function)
            .arg(self.keys.len())
            .arg(&self.keys)
            .arg(&self.arguments)
            .query::<Value>(connection)
            .and_then(Value::extract_error)
    }

    /// The same with other arguments.
    pub(crate) fn changed(&self, changes: &[Change]) -> Self {
        let mut call = self.clone();
        for change in changes {
            change.apply(&mut call.arguments);
        }
        call
    }
}

/// A change of a call's arguments.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Replace(Index, &'static str),
    Splice(Index, Splice),
    Remove(Index),
    Add(&'static str),
    Swap(Index, Index),
    Repeat(Index),
}

impl Change {
    fn apply(&self, arguments: &mut Vec<Vec<u8>>) {
        if arguments.is_empty() {
            arguments.push(Vec::new());
        }
        let count = arguments.len();
        match self {
            Self::Replace(at, word) => arguments[at.index(count)] = word.as_bytes().to_vec(),
            Self::Splice(at, splice) => splice.apply(&mut arguments[at.index(count)]),
            Self::Remove(at) => drop(arguments.remove(at.index(count))),
            Self::Add(word) => arguments.push(word.as_bytes().to_vec()),
            Self::Swap(one, other) => arguments.swap(one.index(count), other.index(count)),
            Self::Repeat(at) => arguments.push(arguments[at.index(count)].clone()),
        }
    }
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    let (at, word) = (any::<Index>, || select(&WORDS[..]));
    prop_oneof![
        4 => (at(), word()).prop_map(|(at, word)| Change::Replace(at, word)),
        3 => (at(), splice(&WORDS)).prop_map(|(at, splice)| Change::Splice(at, splice)),
        1 => at().prop_map(Change::Remove),
        1 => word().prop_map(Change::Add),
        1 => (at(), at()).prop_map(|(one, other)| Change::Swap(one, other)),
        1 => at().prop_map(Change::Repeat),
    ]
}

/// The calls of all exercises, those of one shard or object together, in order.
pub(crate) fn record() -> Vec<Vec<Sent>> {
    let server = RedisServer::start();
    let liar = Liar::before(&server);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    liar.tell(Vec::new());
    for (what, exercise) in EXERCISES {
        let outcome = runtime.block_on(async {
            let (broker, name) = connect(&liar).await;
            exercise(broker, name).await
        });
        assert!(outcome.is_ok(), "{what}: {outcome:?}");
    }
    let mut groups: BTreeMap<Vec<u8>, Vec<Sent>> = BTreeMap::new();
    for sent in liar.requests().iter().filter_map(|words| Sent::read(words)) {
        groups.entry(sent.keys[0].clone()).or_default().push(sent);
    }
    for group in groups.values_mut() {
        add_distant(group);
        add_rare(group);
    }
    groups.into_values().collect()
}

/// Adds what is called on a Cluster alone, and where a replica has to confirm, to the calls of a shard.
fn add_distant(group: &mut Vec<Sent>) {
    let key = String::from_utf8_lossy(&group[0].keys[0]).into_owned();
    let Some((tag, _)) = key.split_once("/0}:") else {
        return;
    };
    let mut add = |verb: &str, parts: &[&str], arguments: &[&str]| {
        let bytes = |text: &&str| text.as_bytes().to_vec();
        group.push(Sent {
            function: format!("{LIBRARY}_{verb}").into_bytes(),
            keys: parts
                .iter()
                .map(|part| format!("{tag}/0}}:{part}").into_bytes())
                .collect(),
            arguments: arguments.iter().map(bytes).collect(),
        });
    };
    add("wake", &["wake.all", "absent"], &["0", "3"]);
    add("mark", &["mark"], &[]);
}

/// Adds what a process only calls after some time or at its end, to the calls of an object that has members.
fn add_rare(group: &mut Vec<Sent>) {
    if let Some(start) = group.iter().find(|sent| sent.verb() == "start") {
        let id = start.arguments[0].clone();
        let read = Sent {
            function: format!("{LIBRARY}_log_read").into_bytes(),
            keys: start.keys.clone(),
            arguments: vec![id.clone(), id, b"1".to_vec()],
        };
        group.push(read);
    }
    let has_member = |sent: &&Sent| {
        sent.arguments
            .get(1)
            .is_some_and(|member| member.len() == 16)
    };
    let Some(pattern) = group.iter().find(has_member).cloned() else {
        return;
    };
    let word = String::from_utf8_lossy(&pattern.keys[0]).into_owned();
    let member = pattern.arguments[1].clone();
    let mut add = |verb: &str, arguments: Vec<Vec<u8>>| {
        group.push(Sent {
            function: format!("{LIBRARY}_{verb}").into_bytes(),
            keys: pattern.keys.clone(),
            arguments,
        });
    };
    let text = |text: &str| text.as_bytes().to_vec();
    add("renew", vec![text("60000"), text("60000"), member.clone()]);
    if word.contains(":pipe:") {
        add("pipe_leave", vec![text("60000"), member.clone(), text("1")]);
        add(
            "pipe_abort",
            vec![text("60000"), member, text("9"), text("60000")],
        );
    } else if word.contains(":list:") {
        add("refs", vec![text("0")]);
    }
}

/// A server with the library.
pub(crate) fn loaded() -> RedisServer {
    let server = RedisServer::start();
    redis::cmd("FUNCTION")
        .arg(&["LOAD", SOURCE])
        .exec(&mut server.connection())
        .unwrap();
    server
}

/// Everything that the server holds, with the times at which it goes; without what goes within a moment.
fn state(connection: &mut Connection) -> BTreeMap<Vec<u8>, (Vec<u8>, i64)> {
    let (seconds, _): (i64, i64) = redis::cmd("TIME").query(connection).unwrap();
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(connection).unwrap();
    let ask = |key: Vec<u8>| {
        let bytes: Option<Vec<u8>> = redis::cmd("DUMP").arg(&key).query(connection).unwrap();
        let expires: i64 = redis::cmd("PEXPIRETIME")
            .arg(&key)
            .query(connection)
            .unwrap();
        let stays = expires == -1 || expires > (seconds + 3) * 1000;
        Some((key, (bytes.filter(|_| stays)?, expires)))
    };
    keys.into_iter().filter_map(ask).collect()
}

/// Whether an error is one of Lua's own, or no answer at all: something was not checked.
fn is_unchecked(error: &redis::RedisError) -> bool {
    let text = error.to_string();
    error.kind() == redis::ErrorKind::Parse
        || text.contains("attempt to")
        || text.contains("bad argument")
        || text.contains("too many results")
}

#[test]
fn the_exercises_call_every_function() {
    let called: BTreeSet<String> = record().iter().flatten().map(Sent::verb).collect();
    let words = SOURCE
        .split("\nregister(\"")
        .skip(1)
        .chain(SOURCE.split("step(\"").skip(1));
    let missing: Vec<&str> = words
        .map(|rest| rest.split('"').next().unwrap())
        .filter(|verb| !called.contains(*verb))
        .collect();
    assert!(missing.is_empty(), "no exercise calls {missing:?}");
}

#[test]
fn a_call_with_any_arguments_changes_all_or_nothing_and_spoils_nothing() {
    let groups = record();
    let server = loaded();
    let inputs = (any::<Index>(), any::<Index>(), vec(change(), 1..4));
    fuzz(inputs, |(group, at, changes)| {
        let connection = &mut server.connection();
        let group = &groups[group.index(groups.len())];
        let at = at.index(group.len());
        redis::cmd("FLUSHDB").exec(connection).unwrap();
        for sent in &group[..at] {
            let _ = sent.send(connection);
        }
        let call = group[at].changed(&changes);
        let before = state(connection);
        if let Err(error) = call.send(connection) {
            prop_assert!(
                error.kind() != redis::ErrorKind::Parse,
                "{} answers {}",
                call.verb(),
                error
            );
            let after = state(connection);
            prop_assert!(
                before == after,
                "{} failed half done: {}",
                call.verb(),
                error
            );
        }
        for sent in &group[at..] {
            if let Err(error) = sent.send(connection) {
                let poisoned = is_unchecked(&error);
                prop_assert!(
                    !poisoned,
                    "after {} {} fails: {}",
                    call.verb(),
                    sent.verb(),
                    error
                );
            }
        }
        Ok(())
    });
}
