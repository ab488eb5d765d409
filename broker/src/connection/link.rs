//! One connection that comes back: calls with a deadline, sent again where that is safe.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, RedisResult, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::blocking::in_a_thread;
use super::retry::{Class, class, explain, pause};
use crate::connection::local::LocalBroker;
use crate::error::{Error, Result};
use crate::functions::{Call, SOURCE};

const CONNECT: Duration = Duration::from_secs(2);
/// A flow that answers nothing may be dead though nothing says so: after this many timeouts in a row it is replaced.
const TIMEOUTS: u32 = 2;

/// How often one call loads the library: somebody may flush it again at once.
const LOADS: u32 = 5;

fn late(what: &'static str) -> RedisError {
    RedisError::from((redis::ErrorKind::Io, what))
}

/// The server that links lead to.
pub(crate) struct Server {
    pub(crate) client: Client,
    /// Its address, as it may be shown.
    pub(crate) at: Arc<str>,
    /// Where the server is this user's own: it runs for as long as this is held, and comes back where it died.
    pub(crate) local: Option<LocalBroker>,
}

impl Server {
    /// Starts the user's own server again, where it is one and has died.
    async fn revive(self: Arc<Self>) {
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

/// A connection to one server, shared by its clones' callers and opened again whenever it breaks.
pub(crate) struct Link {
    server: Arc<Server>,
    /// How long one try may take.
    response: Duration,
    /// Never held over an await: a call that its caller does not poll any more must not hold up the others.
    state: std::sync::Mutex<State>,
    /// Held by who opens the connection.
    opening: Mutex<()>,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    generation: u64,
    timeouts: u32,
}

impl State {
    /// The connection and its generation, where it is open.
    fn open(&self) -> Option<(MultiplexedConnection, u64)> {
        let connection = self.connection.clone()?;
        Some((connection, self.generation))
    }
}

impl Link {
    pub(crate) fn new(server: Arc<Server>, response: Duration) -> Self {
        Self {
            server,
            response,
            state: std::sync::Mutex::default(),
            opening: Mutex::default(),
        }
    }

    /// Calls a function, again and again for up to `patience` while the broker is away.
    pub(crate) async fn call(&self, call: &Call, patience: Duration) -> Result<Value> {
        self.send(&call.command, call.verb, patience).await
    }

    /// Sends a command likewise; it must be idempotent.
    pub(crate) async fn send(
        &self,
        command: &Cmd,
        doing: &'static str,
        patience: Duration,
    ) -> Result<Value> {
        let deadline = Instant::now() + patience;
        let (mut tries, mut loads) = (0, 0);
        loop {
            let mut error = match self.try_once(command, deadline).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if class(&error) == Class::NoFunction && loads < LOADS {
                loads += 1;
                match self.load().await {
                    Ok(()) => continue,
                    Err(failed) => error = failed,
                }
            }
            match class(&error) {
                Class::Again | Class::Reconnect if Instant::now() < deadline => {}
                _ => return Err(explain(error, &self.server.at, doing)),
            }
            tracing::debug!(target: "pmq", doing, %error, "trying again");
            sleep(pause(tries).min(deadline.saturating_duration_since(Instant::now()))).await;
            tries += 1;
        }
    }

    /// Sends a command once: for one that would have another effect if it were sent again.
    pub(crate) async fn send_once(&self, command: &Cmd, doing: &'static str) -> Result<Value> {
        self.try_once(command, Instant::now() + self.response)
            .await
            .map_err(|e| explain(e, &self.server.at, doing))
    }

    /// One try. Its time includes the wait for a connection, which others may be opening.
    async fn try_once(&self, command: &Cmd, deadline: Instant) -> RedisResult<Value> {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = self.response.min(left).max(Duration::from_millis(100));
        let used = AtomicU64::new(0);
        let exchange = async {
            let (mut connection, generation) = self.connection().await?;
            used.store(generation, Ordering::Relaxed);
            connection
                .send_packed_command(command)
                .await
                .and_then(Value::extract_error)
        };
        let answer = timeout(limit, exchange)
            .await
            .unwrap_or_else(|_| Err(late("no answer in time")));
        if let Err(error) = &answer
            && class(error) == Class::Reconnect
        {
            self.broken(used.into_inner(), !error.is_connection_dropped());
        } else {
            self.state().timeouts = 0;
        }
        answer
    }

    async fn connection(&self) -> RedisResult<(MultiplexedConnection, u64)> {
        if let Some(open) = self.state().open() {
            return Ok(open);
        }
        let _opening = self.opening.lock().await;
        if let Some(open) = self.state().open() {
            return Ok(open);
        }
        let connection = match self.connect().await {
            Err(_) if self.is_local() => {
                self.server.clone().revive().await;
                self.connect().await?
            }
            connected => connected?,
        };
        let mut state = self.state();
        state.connection = Some(connection.clone());
        state.generation += 1;
        state.timeouts = 0;
        Ok((connection, state.generation))
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(1024);
        match timeout(
            CONNECT,
            self.server
                .client
                .get_multiplexed_async_connection_with_config(&config),
        )
        .await
        {
            Ok(connection) => connection,
            Err(_) => Err(late("no connection in time")),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self, generation: u64, only_late: bool) {
        let mut state = self.state();
        if state.generation == generation {
            state.timeouts += 1;
            if !only_late || state.timeouts >= TIMEOUTS {
                state.connection = None;
            }
        }
    }

    /// Loads the library where it is missing. It is never replaced: its name stands for its sources.
    pub(crate) async fn load(&self) -> RedisResult<()> {
        let (mut connection, _) = self.connection().await?;
        let mut command = redis::cmd("FUNCTION");
        command.arg("LOAD").arg(SOURCE);
        match timeout(self.response, connection.send_packed_command(&command)).await {
            Ok(answer) => match answer.and_then(Value::extract_error) {
                Err(error) if error.to_string().contains("already exists") => Ok(()),
                answer => answer.map(drop),
            },
            Err(_) => Err(late("no answer in time")),
        }
    }

    /// The error of a call that was not sent in time.
    pub(crate) fn late(&self, doing: &'static str) -> Error {
        explain(late("no answer in time"), &self.server.at, doing)
    }

    /// The address, as it may be shown.
    pub(crate) fn at(&self) -> &Arc<str> {
        &self.server.at
    }

    /// Whether the server is this user's own.
    pub(crate) fn is_local(&self) -> bool {
        self.server.local.is_some()
    }

    /// Whether the server is one of a Redis Cluster.
    #[expect(clippy::unused_self, reason = "no link leads to one yet")]
    pub(crate) fn is_cluster(&self) -> bool {
        false
    }

    /// A connection of its own to the same server, for calls that block there.
    pub(crate) fn sibling(&self, response: Duration) -> Self {
        Self::new(self.server.clone(), response)
    }

    /// Opens a subscription; what is published arrives on the receiver until the connection ends.
    pub(crate) async fn subscribe(&self, channels: &[String]) -> Result<Subscription> {
        let (sender, messages) = tokio::sync::mpsc::unbounded_channel();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(self.response))
            .set_push_sender(sender);
        let client =
            resp3(&self.server.client).map_err(|e| explain(e, &self.server.at, "subscribe"))?;
        let failed = |e| explain(e, &self.server.at, "subscribe");
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(failed)?;
        for channel in channels {
            connection.subscribe(channel).await.map_err(failed)?;
        }
        Ok(Subscription {
            messages,
            _connection: connection,
        })
    }
}

fn resp3(client: &Client) -> RedisResult<Client> {
    let info = client.get_connection_info().clone();
    let settings = info
        .redis_settings()
        .clone()
        .set_protocol(redis::ProtocolVersion::RESP3);
    Client::open(info.set_redis_settings(settings))
}

/// What is published on some channels. It may lose messages: use it to be quick, never to be right.
pub(crate) struct Subscription {
    messages: tokio::sync::mpsc::UnboundedReceiver<redis::PushInfo>,
    _connection: MultiplexedConnection,
}

impl Subscription {
    /// The payloads that have arrived already.
    pub(crate) fn waiting(&mut self) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        while let Ok(push) = self.messages.try_recv() {
            payloads.extend(payload(push));
        }
        payloads
    }

    /// The next message's payload; `None` once the connection is gone.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let push = self.messages.recv().await?;
            if push.kind == redis::PushKind::Disconnection {
                return None;
            }
            if let Some(payload) = payload(push) {
                return Some(payload);
            }
        }
    }
}

fn payload(push: redis::PushInfo) -> Option<Vec<u8>> {
    match (push.kind, push.data.into_iter().nth(1)) {
        (redis::PushKind::Message, Some(Value::BulkString(payload))) => Some(payload),
        _ => None,
    }
}
