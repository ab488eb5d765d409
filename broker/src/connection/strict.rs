//! Whether servers can keep what `--durability strict` promises.

use super::check::{Primary, ServerReport};
use super::lane::Lane;
use crate::durability::Durability;
use crate::error::{Error, Result};
use crate::reply;

/// Since this version a server says what is on its disk, and on those of its replicas.
const WAITAOF: (u32, u32) = (7, 2);

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
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg("appendfsync");
    let doing = "ask for the server's settings";
    for answer in lane.ask_each(&command, doing).await? {
        let mut said = reply::items(answer.said?, doing)?.into_iter();
        let always = said.next_back().map(|value| reply::text(value, doing));
        if always.transpose()?.as_deref() != Some("always") {
            let why = "does not write each change down before it answers";
            return Err(refused(&answer.at, why, "appendfsync always"));
        }
    }
    Ok(false)
}

fn refused(at: &str, why: &str, setting: &str) -> Error {
    Error::Unsuitable(format!(
        "the server at {at} {why}, which durability strict needs; run `redis-cli CONFIG SET {setting}`, and set the same in redis.conf"
    ))
}
