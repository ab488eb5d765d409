//! One connection that comes back: calls with a deadline, sent again where that is safe.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, RedisResult, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::on_the_heap;
use super::parcel::Parcel;
use super::retry::{Class, class, explain, pause};
use super::server::{CONNECT, Server, late};
use super::strict;
use super::subscription::Subscription;
use crate::error::Result;
use crate::functions::SOURCE;

/// A flow that answers nothing may be dead though nothing says so: after this many timeouts in a row it is replaced.
const TIMEOUTS: u32 = 2;

/// How often one call loads the library: somebody may flush it again at once.
pub(super) const LOADS: u32 = 5;

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
    /// Whether the server can say what is on the disks, once this connection has asked.
    disks: Option<bool>,
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

    /// Sends a command, again and again for up to `patience` while the server is away; it must be idempotent.
    pub(crate) async fn send(
        &self,
        parcel: impl Into<Parcel<'_>>,
        doing: &'static str,
        patience: Duration,
    ) -> Result<Value> {
        let parcel = parcel.into();
        let deadline = Instant::now() + patience;
        let (mut tries, mut loads) = (0, 0);
        loop {
            let mut error = match self.try_once(parcel, deadline).await {
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
    pub(super) async fn try_once(
        &self,
        parcel: impl Into<Parcel<'_>>,
        deadline: Instant,
    ) -> RedisResult<Value> {
        let parcel = parcel.into();
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = self.response.min(left).max(Duration::from_millis(100));
        let used = AtomicU64::new(0);
        let answer = tokio::select! {
            biased;
            answer = timeout(limit, async {
                let (mut connection, generation) = self.connection().await?;
                used.store(generation, Ordering::Relaxed);
                let disks = parcel.is_strict()
                    && on_the_heap(self.vetted(&mut connection, generation)).await?;
                parcel.send(&mut connection, disks).await
            }) => answer.unwrap_or_else(|_| Err(late("no answer in time"))),
            () = self.server.retires() => Err(late("another server has taken its place")),
        };
        if let Err(error) = &answer
            && class(error) == Class::Reconnect
        {
            let lost = error.is_connection_dropped() || self.server.is_retired();
            self.broken(used.into_inner(), !lost);
        } else {
            self.state().timeouts = 0;
        }
        answer
    }

    async fn connection(&self) -> RedisResult<(MultiplexedConnection, u64)> {
        let open = self.state().open();
        match open {
            Some(open) => Ok(open),
            // A call seldom comes here, so it carries neither the size nor the type of what happens here.
            None => on_the_heap(self.open()).await,
        }
    }

    async fn open(&self) -> RedisResult<(MultiplexedConnection, u64)> {
        let _opening = self.opening.lock().await;
        if let Some(open) = self.state().open() {
            return Ok(open);
        }
        let connection = match self.server.connect().await {
            Err(_) if self.is_local() => {
                self.server.clone().revive().await;
                self.server.connect().await?
            }
            connected => connected?,
        };
        let mut state = self.state();
        state.connection = Some(connection.clone());
        state.generation += 1;
        state.timeouts = 0;
        state.disks = None;
        Ok((connection, state.generation))
    }

    /// Sees, once for each connection, that the server keeps what is promised: it may be another one than before. Answers
    /// whether it can say what is on the disks.
    async fn vetted(
        &self,
        connection: &mut MultiplexedConnection,
        generation: u64,
    ) -> RedisResult<bool> {
        let known = |state: &State| state.disks.filter(|_| state.generation == generation);
        if let Some(disks) = known(&self.state()) {
            return Ok(disks);
        }
        let disks = strict::vet(connection, &self.server.at).await?;
        let mut state = self.state();
        if state.generation == generation {
            state.disks = Some(disks);
        }
        Ok(disks)
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

    /// How long one try may take.
    pub(super) fn response(&self) -> Duration {
        self.response
    }

    /// The server that it leads to.
    pub(super) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// The address, as it may be shown.
    pub(crate) fn at(&self) -> &Arc<str> {
        &self.server.at
    }

    /// Whether the server is this user's own.
    pub(crate) fn is_local(&self) -> bool {
        self.server.local.is_some()
    }

    /// A connection of its own to the same server, for calls that block there.
    pub(crate) fn sibling(&self, response: Duration) -> Self {
        Self::new(self.server.clone(), response)
    }

    /// Opens a subscription; what is published arrives on the receiver until the connection ends.
    pub(crate) async fn subscribe(&self, channels: &[String]) -> Result<Subscription> {
        let subscribed = tokio::select! {
            subscribed = on_the_heap(self.subscribed(channels)) => subscribed,
            () = self.server.retires() => Err(late("another server has taken its place")),
        };
        subscribed.map_err(|e| explain(e, &self.server.at, "subscribe"))
    }

    async fn subscribed(&self, channels: &[String]) -> RedisResult<Subscription> {
        let (sender, messages) = tokio::sync::mpsc::unbounded_channel();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(self.response))
            .set_push_sender(sender);
        self.server.admit().await?;
        let mut connection = resp3(&self.server.client)?
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        for channel in channels {
            connection.subscribe(channel).await?;
        }
        let retired = self.server.retirement().cloned();
        Ok(Subscription::new(messages, connection, retired))
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
