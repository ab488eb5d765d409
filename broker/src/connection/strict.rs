//! Whether servers can keep what `--durability strict` promises.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::Value;

use super::check::{Primary, ServerReport};
use super::lane::Lane;
use crate::durability::Durability;
use crate::error::{Error, Result};
use crate::reply;

/// Since this version a server says what is on its disk, and on those of its replicas.
const WAITAOF: (u32, u32) = (7, 2);

const ASK: &str = "ask for the server's settings";

/// Refuses primaries that can't promise what `durability` asks for. Answers whether they can say what is on the disks.
pub(crate) async fn check(lane: &Lane, durability: Durability) -> Result<bool> {
    if durability != Durability::Strict {
        return Ok(false);
    }
    let primaries = ServerReport::of_each(lane).await?;
    for Primary {
        address, report, ..
    } in &primaries
    {
        if report.field("aof_enabled") != Some("1") {
            return Err(refused(
                address,
                "has no append-only file",
                "appendonly yes",
            ));
        }
    }
    if primaries
        .iter()
        .all(|primary| primary.report.is_since(WAITAOF))
    {
        return Ok(true);
    }
    for (at, settings) in settings_of_each(lane, &["appendfsync"]).await? {
        if settings
            .get("appendfsync")
            .is_none_or(|fsync| fsync != "always")
        {
            let why = "does not write each change down before it answers, or does not say so";
            return Err(refused(&at, why, "appendfsync always"));
        }
    }
    Ok(false)
}

/// The settings of these names of each primary; none where this user may not ask.
pub(crate) async fn settings_of_each(
    lane: &Lane,
    names: &[&str],
) -> Result<Vec<(Arc<str>, BTreeMap<String, String>)>> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(names);
    let mut all = Vec::new();
    for answer in lane.ask_each(&command, ASK).await? {
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

fn refused(at: &str, why: &str, setting: &str) -> Error {
    Error::Unsuitable(format!(
        "the server at {at} {why}, which durability strict needs; run `redis-cli CONFIG SET {setting}`, and set the same in redis.conf"
    ))
}
