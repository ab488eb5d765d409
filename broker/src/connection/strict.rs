//! Whether servers can keep what `--durability strict` promises.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Value};

use super::check::ServerReport;
use super::lane::Lane;
use super::refusal::Refusal;
use crate::durability::Durability;
use crate::error::{Error, Result};
use crate::reply;

/// Since this version a server says what is on its disk, and on those of its replicas.
const WAITAOF: (u32, u32) = (7, 2);

const ASK: &str = "ask for the server's settings";

/// Refuses primaries that can't promise what `durability` asks for, before anything is sent to them. Each connection asks
/// again, as a server that takes over may have other settings.
pub(crate) async fn check(lane: &Lane, durability: Durability) -> Result<()> {
    if durability != Durability::Strict {
        return Ok(());
    }
    let mut settings = settings_of_each(lane, &["appendfsync"]).await?.into_iter();
    for primary in ServerReport::of_each(lane).await? {
        let of_it = settings.find(|(at, _)| **at == primary.address);
        let fsync = of_it.and_then(|(_, mut settings)| settings.remove("appendfsync"));
        judge(&primary.address, &primary.report, fsync.as_deref())?;
    }
    Ok(())
}

/// The same for the server of a connection, which has made no promise yet. Answers whether it can say what is on the disks.
pub(super) async fn vet(connection: &mut MultiplexedConnection, at: &str) -> RedisResult<bool> {
    let report = match told(connection.send_packed_command(&redis::cmd("INFO")).await)? {
        Some(info) => ServerReport::parse(&redis::from_redis_value::<String>(info)?),
        None => ServerReport::default(),
    };
    let fsync = match told(
        connection
            .send_packed_command(&config(&["appendfsync"]))
            .await,
    )? {
        Some(answer) => redis::from_redis_value::<Vec<String>>(answer)?.pop(),
        None => None,
    };
    Ok(judge(at, &report, fsync.as_deref())?)
}

/// An answer, or nothing for a user who may not ask.
fn told(answer: RedisResult<Value>) -> RedisResult<Option<Value>> {
    match answer.and_then(Value::extract_error) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code() == Some("NOPERM") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a server can say what is on the disks, which one that writes each change at once need not. Any other is refused.
fn judge(
    at: &str,
    report: &ServerReport,
    fsync: Option<&str>,
) -> std::result::Result<bool, Refusal> {
    let refused = |why: &str, setting: &str| {
        Refusal::Unsuitable(format!(
            "the server at {at} {why}, which durability strict needs; run `redis-cli CONFIG SET {setting}`, and set the same in redis.conf"
        ))
    };
    if report.field("aof_enabled") != Some("1") {
        return Err(refused("has no append-only file", "appendonly yes"));
    }
    if report.is_since(WAITAOF) {
        return Ok(true);
    }
    if fsync != Some("always") {
        let why = "does not write each change down before it answers, or does not say so";
        return Err(refused(why, "appendfsync always"));
    }
    Ok(false)
}

fn config(names: &[&str]) -> Cmd {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(names);
    command
}

/// The settings of these names of each primary; none where this user may not ask.
pub(crate) async fn settings_of_each(
    lane: &Lane,
    names: &[&str],
) -> Result<Vec<(Arc<str>, BTreeMap<String, String>)>> {
    let mut all = Vec::new();
    for answer in lane.ask_each(&config(names), ASK).await? {
        let said = match answer.said {
            Err(Error::Denied { .. } | Error::Unexpected { .. }) => BTreeMap::new(),
            said => settings(said?)?,
        };
        all.push((answer.at, said));
    }
    Ok(all)
}

/// What `CONFIG GET` answers.
pub(crate) fn settings(answer: Value) -> Result<BTreeMap<String, String>> {
    let mut items = reply::items(answer, ASK)?.into_iter();
    let mut settings = BTreeMap::new();
    while let (Some(name), Some(value)) = (items.next(), items.next()) {
        settings.insert(reply::text(name, ASK)?, reply::text(value, ASK)?);
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_server_must_write_at_once_and_a_newer_one_says_what_it_wrote() {
        let judged = |info: &str, fsync| {
            let judged = judge("h:1", &ServerReport::parse(info), fsync);
            judged.map_err(|refusal| refusal.to_string())
        };
        let (old, new) = (
            "redis_version:7.0.15\r\naof_enabled:1\r\n",
            "redis_version:7.2.0\r\naof_enabled:1\r\n",
        );
        assert_eq!(judged(old, Some("always")), Ok(false));
        assert_eq!(judged(new, Some("everysec")), Ok(true));
        assert_eq!(judged(new, None), Ok(true));
        for fsync in [Some("everysec"), None] {
            let why = judged(old, fsync).unwrap_err();
            assert!(
                why.contains("h:1") && why.contains("appendfsync always"),
                "{why}"
            );
        }
        for info in ["redis_version:8.0\r\naof_enabled:0\r\n", ""] {
            let why = judged(info, Some("always")).unwrap_err();
            assert!(why.contains("appendonly yes"), "{why}");
        }
    }
}
