//! A server that links lead to.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::address::{Access, Endpoint};
use super::blocking::in_a_thread;
use super::exposure::Guard;
use crate::connection::local::LocalBroker;
use crate::error::Error;

pub(super) const CONNECT: Duration = Duration::from_secs(2);

/// The server that links lead to.
pub(crate) struct Server {
    pub(crate) client: Client,
    /// Its address, as it may be shown.
    pub(crate) at: Arc<str>,
    /// Where the server is this user's own: it runs for as long as this is held, and comes back where it died.
    pub(crate) local: Option<LocalBroker>,
    /// Where it is a primary that another may take the place of.
    pub(crate) tenure: Option<Tenure>,
}

/// What a server is one of several for.
pub(crate) struct Tenure {
    pub(crate) endpoint: Endpoint,
    /// The URL need not name it, so it was not looked at before.
    guard: Guard,
    /// Cancelled when the server is a primary no more: also if it is still alive, nothing goes to it from then on.
    pub(crate) retired: CancellationToken,
}

impl Server {
    /// The one server that there is; `local` where it is this user's own.
    pub(crate) fn alone(client: Client, at: String, local: Option<LocalBroker>) -> Self {
        Self {
            client,
            at: at.into(),
            local,
            tenure: None,
        }
    }

    /// A primary of several, or one that others may replace.
    pub(crate) fn primary(access: &Access, endpoint: Endpoint) -> RedisResult<Self> {
        Ok(Self {
            client: access.client_of(&endpoint)?,
            at: endpoint.to_string().into(),
            local: None,
            tenure: Some(Tenure {
                endpoint,
                guard: access.guard().clone(),
                retired: CancellationToken::new(),
            }),
        })
    }

    /// Its address, where another server may take its place.
    pub(crate) fn endpoint(&self) -> Option<&Endpoint> {
        self.tenure.as_ref().map(|tenure| &tenure.endpoint)
    }

    /// When it retires, where it may.
    pub(crate) fn retirement(&self) -> Option<&CancellationToken> {
        self.tenure.as_ref().map(|tenure| &tenure.retired)
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retirement()
            .is_some_and(CancellationToken::is_cancelled)
    }

    pub(crate) fn retire(&self) {
        if let Some(retired) = self.retirement() {
            retired.cancel();
        }
    }

    /// Resolves when it retires.
    pub(super) async fn retires(&self) {
        match self.retirement() {
            Some(retired) => retired.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Refuses one that others could listen to or use as well, where it is one of which was only heard.
    pub(super) async fn admit(&self) -> RedisResult<()> {
        match &self.tenure {
            Some(tenure) => tenure.guard.admit(&tenure.endpoint).await,
            None => Ok(()),
        }
    }

    /// Opens a connection, within 2 s.
    pub(super) async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(1024);
        let connect = async {
            self.admit().await?;
            self.client
                .get_multiplexed_async_connection_with_config(&config)
                .await
        };
        let connected = timeout(CONNECT, connect).await;
        connected.unwrap_or_else(|_| Err(late("no connection in time")))
    }

    /// Starts the user's own server again, where it is one and has died.
    pub(super) async fn revive(self: Arc<Self>) {
        let revived = in_a_thread(move || {
            self.local
                .as_ref()
                .map_or(Ok(()), LocalBroker::ensure_running)
        });
        if let Err(error) = revived
            .await
            .map_err(Error::NoThread)
            .and_then(|revived| Ok(revived?))
        {
            tracing::warn!(target: "pmq", %error, "could not start the local broker again");
        }
    }
}

/// Too late, or of no use any more: nobody knows whether the call ran.
pub(super) fn late(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Io, what))
}
