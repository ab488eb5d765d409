//! Whether a login took effect: a server may take anybody for its user `default`, and say nothing.

use std::time::Duration;

use redis::RedisConnectionInfo;

use super::Insecurity;
use super::lane::Lane;
use crate::error::{Error, Result};
use crate::reply;

/// The user of whoever names none.
const DEFAULT: &str = "default";
/// The server has just answered.
const SOON: Duration = Duration::from_secs(2);

/// Fails where the server takes this process for another user than was asked for. Who may not ask is believed.
pub(crate) async fn check(lane: &Lane, asked: &RedisConnectionInfo) -> Result<()> {
    let asked = match (asked.username(), asked.password()) {
        (Some(user), _) => user,
        (None, Some(_)) => DEFAULT,
        (None, None) => return Ok(()),
    };
    let doing = "ask for the user";
    let mut whoami = redis::cmd("ACL");
    whoami.arg("WHOAMI");
    let user = match lane.send(&whoami, doing, SOON).await {
        Err(Error::Denied { .. } | Error::Unexpected { .. }) => return Ok(()),
        answer => reply::text(answer?, doing)?,
    };
    if user == asked {
        return Ok(());
    }
    Err(Error::Insecure {
        at: lane.at().to_string(),
        why: Insecurity::OtherUser {
            user,
            asked: asked.to_owned(),
        },
    })
}

/// The user `default` logs in by the password alone: with the name as well, a server without a password takes any.
pub(super) fn by_password(settings: RedisConnectionInfo) -> RedisConnectionInfo {
    match (settings.username(), settings.password()) {
        (Some(DEFAULT), Some(password)) => RedisConnectionInfo::default()
            .set_db(settings.db())
            .set_password(password),
        _ => settings,
    }
}
