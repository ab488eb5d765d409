//! A closer look at a broker that could not be used: what else would it have answered to?

use std::time::Duration;

use redis::{Client, ConnectionAddr, ConnectionInfo, RedisConnectionInfo, RedisResult};
use tokio::time::timeout;

use super::tls::with_tls;
use super::{Insecurity, TlsProblem};
use crate::error::Error;

/// Short, as whoever reads the error has waited already.
const PROBE: Duration = Duration::from_millis(500);

/// The error of the first call to a server, or a better one.
pub(crate) async fn explain(error: Error, access: ConnectionInfo) -> Error {
    let has_password = access.redis_settings().password().is_some();
    // A stranger, so that no password goes to whoever answers.
    let stranger = access.set_redis_settings(RedisConnectionInfo::default());
    let found = match &error {
        Error::Login { .. } if has_password => when_refused(&stranger).await,
        Error::Unreachable { .. } | Error::Unsuitable(_) => when_silent(&stranger).await,
        _ => None,
    };
    found.unwrap_or(error)
}

/// A server without a password refuses any, as one with another does.
async fn when_refused(stranger: &ConnectionInfo) -> Option<Error> {
    ping(stranger.clone()).await?.ok()?;
    Some(Error::Insecure {
        at: stranger.addr().to_string(),
        why: Insecurity::OpenToAll,
    })
}

/// The other side may wait for TLS, or for none.
async fn when_silent(stranger: &ConnectionInfo) -> Option<Error> {
    let problem = match stranger.addr().clone() {
        ConnectionAddr::TcpTls { host, port, .. } => {
            let plain = stranger.clone().set_addr(ConnectionAddr::Tcp(host, port));
            answers(&ping(plain).await?).then_some(TlsProblem::Plain)
        }
        ConnectionAddr::Tcp(host, port) => {
            let encrypted = with_tls(stranger.clone(), host, port).ok()?;
            let answer = ping(encrypted).await?;
            (answers(&answer) || began_tls(&answer)).then_some(TlsProblem::NotAsked)
        }
        _ => None,
    };
    Some(Error::Tls {
        at: stranger.addr().to_string(),
        problem: problem?,
    })
}

async fn ping(access: ConnectionInfo) -> Option<RedisResult<String>> {
    let ping = async {
        let mut connection = Client::open(access)?
            .get_multiplexed_async_connection()
            .await?;
        redis::cmd("PING").query_async(&mut connection).await
    };
    timeout(PROBE, ping).await.ok()
}

/// Whether this is how a Redis answers, if only that it wants a login.
fn answers(answer: &RedisResult<String>) -> bool {
    answer
        .as_ref()
        .map_or_else(|error| error.code().is_some(), |_| true)
}

/// Whether it spoke TLS, though nobody here trusts it.
fn began_tls(answer: &RedisResult<String>) -> bool {
    let problem = answer.as_ref().err().and_then(TlsProblem::of);
    problem.is_some_and(|problem| !matches!(problem, TlsProblem::Plain | TlsProblem::Other(_)))
}
