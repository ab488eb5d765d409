//! What this user may do on the server, asked without doing it.

use redis::Value;

use crate::broker::{Broker, PATIENCE};
use crate::error::{Error, Result};
use crate::functions::LIBRARY;
use crate::ids::Name;
use crate::reply;

/// Stands for the key once more.
const KEY: &str = "KEY";
/// The commands that the functions run inside, each with the arguments that follow the key.
const INNER: &[(&str, &[&str])] = &[
    ("DEL", &[]),
    ("EXISTS", &[]),
    ("HDEL", &["f"]),
    ("HEXISTS", &["f"]),
    ("HGET", &["f"]),
    ("HGETALL", &[]),
    ("HINCRBY", &["f", "1"]),
    ("HLEN", &[]),
    ("HMGET", &["f"]),
    ("HSCAN", &["0"]),
    ("HSET", &["f", "v"]),
    ("HSTRLEN", &["f"]),
    ("LINDEX", &["0"]),
    ("LINSERT", &["BEFORE", "p", "v"]),
    ("LLEN", &[]),
    ("LPOP", &[]),
    ("LPOS", &["v"]),
    ("LPUSH", &["v"]),
    ("LRANGE", &["0", "0"]),
    ("LREM", &["1", "v"]),
    ("LSET", &["0", "v"]),
    ("LTRIM", &["0", "0"]),
    ("PEXPIRE", &["1"]),
    ("PERSIST", &[]),
    ("RENAME", &[KEY]),
    ("RPOP", &[]),
    ("RPUSH", &["v"]),
    ("SADD", &["v"]),
    ("SCARD", &[]),
    ("SISMEMBER", &["v"]),
    ("SMEMBERS", &[]),
    ("SMISMEMBER", &["v"]),
    ("SREM", &["v"]),
    ("SSCAN", &["0"]),
    ("UNLINK", &[]),
    ("XADD", &["*", "f", "v"]),
    ("XLEN", &[]),
    ("XREVRANGE", &["+", "-"]),
    ("XTRIM", &["MAXLEN", "0"]),
    ("ZADD", &["1", "v"]),
    ("ZCARD", &[]),
    ("ZMSCORE", &["v"]),
    ("ZPOPMIN", &[]),
    ("ZRANGE", &["0", "0"]),
    ("ZRANGEBYSCORE", &["0", "0"]),
    ("ZRANK", &["v"]),
    ("ZREM", &["v"]),
    ("ZREMRANGEBYRANK", &["0", "0"]),
    ("ZSCORE", &["v"]),
    ("BLPOP", &["1"]),
    ("LPOS", &["v"]),
];
const FUNCTIONS: [&str; 12] = [
    "wake",
    "open",
    "submit",
    "claim",
    "start",
    "finish",
    "heartbeat",
    "take",
    "watch",
    "log_append",
    "cancel",
    "inspect",
];

/// What a user may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// The user's name.
    pub user: String,
    /// The commands that the server denies, each with its reason.
    pub denied: Vec<(String, String)>,
}

impl Broker {
    /// Asks which of pmq's calls this user may make on a queue; `None` where it may not even ask.
    pub async fn rights(&self, queue: &Name) -> Result<Option<Rights>> {
        let mut whoami = redis::cmd("ACL");
        whoami.arg("WHOAMI");
        let user = match self.ask(&whoami).await {
            Err(Error::Denied { .. } | Error::Unexpected { .. }) => return Ok(None),
            answer => reply::text(answer?, "ask for the user")?,
        };
        let queue = self.task_queue(queue);
        let key = &queue.first().keys().fixed()[0];
        let mut rights = Rights {
            user,
            ..Rights::default()
        };
        for command in commands(key) {
            match self.dry_run(&rights.user, &command).await {
                Ok(None) => {}
                Ok(Some(reason)) => rights.denied.push((command[0].clone(), reason)),
                Err(Error::Denied { .. } | Error::Unexpected { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(rights))
    }

    /// Why the server would deny the command; `None` where it would run it.
    async fn dry_run(&self, user: &str, command: &[String]) -> Result<Option<String>> {
        let mut dry_run = redis::cmd("ACL");
        dry_run.arg("DRYRUN").arg(user).arg(command);
        let answer = reply::text(self.ask(&dry_run).await?, "ask for rights")?;
        Ok((answer != "OK").then_some(answer))
    }

    async fn ask(&self, command: &redis::Cmd) -> Result<Value> {
        self.control()
            .send(command, "ask for rights", PATIENCE)
            .await
    }
}

/// A harmless instance of each command, on this key where it has one.
fn commands(key: &str) -> Vec<Vec<String>> {
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let functions = FUNCTIONS
        .iter()
        .map(|verb| words(&["FCALL", &format!("{LIBRARY}_{verb}"), "1", key]));
    let keyless = [
        words(&["PUBLISH", key, "v"]),
        words(&["SUBSCRIBE", key]),
        words(&["XREAD", "COUNT", "1", "STREAMS", key, "0"]),
        words(&["TIME"]),
        words(&["INFO", "server"]),
    ];
    let inner = INNER.iter().map(|(command, rest)| {
        let mut line = words(&[command, key]);
        let rest = rest
            .iter()
            .map(|word| if *word == KEY { key } else { word });
        line.extend(rest.map(ToString::to_string));
        line
    });
    functions.chain(keyless).chain(inner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::SOURCE;

    #[test]
    fn every_command_inside_the_functions_is_asked_for() {
        let asked = commands("k");
        for call in SOURCE.split("redis.call(\"").skip(1) {
            let command = call.split('"').next().unwrap_or_default();
            let known = asked.iter().any(|line| line[0] == command);
            assert!(known, "{command} is missing in INNER");
        }
    }
}
