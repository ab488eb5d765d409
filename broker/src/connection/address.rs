//! From a URL and the environment to something that can be connected to; secrets never show.

use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{Client, ConnectionInfo, IntoConnectionInfo};

use super::{login, tls};
use crate::config::Config;
use crate::error::{Error, Result};

/// A client for the configured server, and its address as it may be shown.
pub(crate) fn client(config: &Config, url: &str) -> Result<(Client, String)> {
    let info = connection_info(config, url)?;
    let at = info.addr().to_string();
    let client = Client::open(info).map_err(|e| Error::BadUrl(e.category().to_owned()))?;
    Ok((client, at))
}

fn connection_info(config: &Config, url: &str) -> Result<ConnectionInfo> {
    let known = ["redis://", "rediss://", "redis+unix://", "unix://"];
    if !known.iter().any(|scheme| url.starts_with(scheme)) {
        return Err(Error::BadUrl(
            "it begins with none of redis://, rediss://, redis+unix://".into(),
        ));
    }
    let info = url
        .into_connection_info()
        .map_err(|e| Error::BadUrl(e.category().to_owned()))?;
    let mut settings = info.redis_settings().clone();
    if settings.password().is_none()
        && let Some(password) = config.password()?
    {
        settings = settings.set_password(password);
    }
    if settings.username().is_none()
        && let Some(username) = &config.username
    {
        settings = settings.set_username(username);
    }
    let info = info
        .set_tcp_settings(tcp())
        .set_redis_settings(login::by_password(settings));
    tls::with_certificates(info, &config.tls)
}

/// A dead peer is noticed in seconds, also where nothing says that it died.
fn tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(3))
        .with_retries(3);
    TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive)
        .set_user_timeout(Duration::from_secs(5))
}
