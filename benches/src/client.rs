//! A plain client of the same server, logged in as pmq is: for floors, and for what the server says of itself.

use std::time::Duration;

use anyhow::{Context, Result};
use pmq_broker::{Config, Password};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Connection, IntoConnectionInfo};

/// Bounds a connect, so that a server that is away fails the run.
const CONNECT: Duration = Duration::from_secs(5);

fn client(config: &Config) -> Result<Client> {
    let url = config.url.as_deref().context("the broker has no URL")?;
    let info = url.into_connection_info()?;
    let mut settings = info.redis_settings().clone();
    if settings.password().is_none()
        && let Some(password) = password(config)?
    {
        settings = settings.set_password(password);
    }
    if settings.username().is_none()
        && let Some(username) = &config.username
    {
        settings = settings.set_username(username);
    }
    let mut tcp = redis::io::tcp::TcpSettings::default();
    tcp = tcp.set_nodelay(true);
    Ok(Client::open(
        info.set_tcp_settings(tcp).set_redis_settings(settings),
    )?)
}

fn password(config: &Config) -> Result<Option<String>> {
    Ok(match &config.password {
        Password::None => None,
        Password::Plain(password) => Some(password.clone()),
        Password::File(path) => {
            let text = std::fs::read_to_string(path).context("could not read the password file")?;
            text.lines().next().map(str::to_owned)
        }
    })
}

/// A synchronous connection, which is what floors are measured with.
pub(crate) fn connect(config: &Config) -> Result<Connection> {
    Ok(client(config)?.get_connection_with_timeout(CONNECT)?)
}

/// An asynchronous one, as pmq's own.
pub(crate) async fn connect_async(config: &Config) -> Result<MultiplexedConnection> {
    let unlimited = AsyncConnectionConfig::new().set_response_timeout(None);
    Ok(client(config)?
        .get_multiplexed_async_connection_with_config(&unlimited)
        .await?)
}
