//! A real `redis-server` of a test's own, or one for all tests that only need a name of their own.

use std::fmt::Write as _;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use redis::{Connection, RedisError, RedisResult};

use crate::certificates::{Authority, Identity, directives};
use crate::daemon::{Daemon, read};
use crate::scratch::Scratch;
use crate::wait::{eventually, eventually_or};

/// Bounds a start, also one that reads a large file, and an orderly end.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Bounds each reply on a connection of the fixture, so that a test fails rather than hangs.
const REPLY_LIMIT: Duration = Duration::from_secs(60);
const PING_LIMIT: Duration = Duration::from_secs(2);
const PORT_ATTEMPTS: usize = 20;
pub(crate) const PORT_TAKEN: &str = "Address already in use";

static SHARED: LazyLock<RedisServer> = LazyLock::new(RedisServer::start);

/// What a [`RedisServer`] shall be like. Unless told otherwise: a unix socket only, no persistence, no password,
/// `noeviction`.
#[derive(Debug, Default, Clone)]
pub struct Builder {
    config: String,
    aof: bool,
    password: Option<String>,
    tcp: bool,
    tls: Option<String>,
    cluster: bool,
}

impl Builder {
    /// Adds a line to `redis.conf`, with the value as it would be written there; it overrides the defaults.
    #[must_use]
    pub fn config(mut self, name: &str, value: &str) -> Self {
        let _ = writeln!(self.config, "{name} {value}");
        self
    }

    /// Whether writes go to an append-only file (`appendfsync everysec`, unless configured).
    #[must_use]
    pub fn aof(mut self, aof: bool) -> Self {
        self.aof = aof;
        self
    }

    /// The password of the default user.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Whether to listen on a TCP port of 127.0.0.1 too, which then is what [`RedisServer::url`] names.
    #[must_use]
    pub fn tcp(mut self, tcp: bool) -> Self {
        self.tcp = tcp;
        self
    }

    /// Listens on its TCP port with TLS alone. Clients need a certificate where `clients` names who signs theirs.
    #[must_use]
    pub fn tls(mut self, identity: &Identity, clients: Option<&Authority>) -> Self {
        self.tls = Some(directives(identity, clients));
        self.tcp(true)
    }

    /// The lines of `redis.conf` about TLS, but for the port; nothing where it has none.
    pub(crate) fn tls_lines(&self) -> Option<&str> {
        self.tls.as_deref()
    }

    /// Whether the server is a node of a Redis Cluster; a node listens on TCP.
    #[must_use]
    pub fn cluster(mut self, cluster: bool) -> Self {
        self.cluster = cluster;
        self
    }

    /// Starts the server and returns once it answers.
    #[must_use]
    pub fn start(self) -> RedisServer {
        for _ in 0..PORT_ATTEMPTS {
            match self.attempt() {
                Ok(server) => return server,
                Err(log) if log.contains(PORT_TAKEN) => {}
                Err(log) => panic!("the server did not start:\n{log}"),
            }
        }
        panic!("found no free port in {PORT_ATTEMPTS} attempts");
    }

    /// One start in a directory of its own; the error is the server's log.
    fn attempt(&self) -> Result<RedisServer, String> {
        let files = Scratch::new();
        let port = (self.tcp || self.cluster).then(free_port);
        fs::write(files.join("redis.conf"), self.file(port))
            .expect("the configuration can be written");
        let mut server = RedisServer {
            daemon: Daemon::start(files, &["redis.conf"]),
            port,
            password: self.password.clone(),
            tls: self.tls.is_some(),
        };
        if server.comes_up() {
            Ok(server)
        } else {
            Err(server.log())
        }
    }

    /// The text of `redis.conf`; its paths are relative to the server's directory.
    fn file(&self, port: Option<u16>) -> String {
        let port = port.unwrap_or(0);
        let aof = if self.aof { "yes" } else { "no" };
        let mut file = format!(
            "bind 127.0.0.1\nport {port}\nprotected-mode no\nunixsocket s\nunixsocketperm 700\nsave \"\"\n\
             appendonly {aof}\nmaxmemory-policy noeviction\nenable-debug-command yes\n"
        );
        if let Some(password) = &self.password {
            let _ = writeln!(file, "requirepass {password:?}");
        }
        if self.cluster {
            // The usual bus port, 10,000 above, may be taken.
            let bus = free_port();
            let _ = writeln!(
                file,
                "cluster-enabled yes\ncluster-node-timeout 2000\ncluster-port {bus}"
            );
        }
        if let Some(tls) = &self.tls {
            let _ = writeln!(file, "{tls}tls-port {port}");
        }
        file + &self.config
    }
}

/// A running server in a directory of its own. Drop kills it and removes the directory.
///
/// What changes its state needs `&mut`, so the shared one cannot be taken away from other tests.
#[derive(Debug)]
pub struct RedisServer {
    daemon: Daemon,
    port: Option<u16>,
    password: Option<String>,
    tls: bool,
}

impl RedisServer {
    /// Starts a server with the defaults of [`Builder`].
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A server that differs from the defaults.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The one server of this test process, for tests that keep to a namespace or queue of their own.
    #[must_use]
    pub fn shared() -> &'static Self {
        &SHARED
    }

    /// How a client connects: by TCP if the server was built with it, else by the unix socket.
    #[must_use]
    pub fn url(&self) -> String {
        match self.port {
            Some(port) => self.tcp_url(port),
            None => self.unix_url(&self.socket()),
        }
    }

    /// The address of this server as if it listened on `port`.
    pub(crate) fn tcp_url(&self, port: u16) -> String {
        let password = self.password.as_deref();
        let login = password.map_or_else(String::new, |password| {
            format!(":{}@", percent_encoded(password))
        });
        let scheme = if self.tls { "rediss" } else { "redis" };
        format!("{scheme}://{login}127.0.0.1:{port}")
    }

    /// The address of this server as if it listened on `socket`.
    pub(crate) fn unix_url(&self, socket: &Path) -> String {
        let password = self.password.as_deref();
        let login = password.map_or_else(String::new, |password| {
            format!("?pass={}", percent_encoded(password))
        });
        format!("redis+unix://{}{login}", socket.display())
    }

    /// The unix socket; every server has one.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory().join("s")
    }

    /// The TCP port on 127.0.0.1, if it has one; it stays the same over restarts.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// A new connection as the default user, past any proxy.
    ///
    /// Its replies have no time limit: the end of any child process interrupts a read that has one.
    #[must_use]
    pub fn connection(&self) -> Connection {
        let is_interrupted = |error: &RedisError| error.to_string().contains("os error 4)");
        loop {
            match self.connect(REPLY_LIMIT) {
                Ok(connection) => {
                    let unlimited = connection.set_read_timeout(None);
                    unlimited.expect("the socket is open");
                    return connection;
                }
                Err(error) if is_interrupted(&error) => {}
                Err(error) => panic!("could not connect to the server: {error}\n{}", self.log()),
            }
        }
    }

    /// A new connection whose replies come within `limit`; `None` where the server is away, or stands still.
    pub(crate) fn connection_within(&self, limit: Duration) -> Option<Connection> {
        self.connect(limit).ok()
    }

    fn connect(&self, limit: Duration) -> RedisResult<Connection> {
        #[expect(
            clippy::disallowed_types,
            reason = "the tests' only way to a connection"
        )]
        let client = redis::Client::open(self.unix_url(&self.socket()))?;
        let connection = client.get_connection_with_timeout(limit)?;
        connection.set_read_timeout(Some(limit))?;
        Ok(connection)
    }

    /// Ends the server as an operator would (SIGTERM) and returns when it is gone.
    pub fn shutdown(&mut self) {
        self.terminate();
        let daemon = &mut self.daemon;
        eventually("the server shuts down", START_LIMIT, || daemon.ended());
    }

    /// Starts the server again on the same files and address, and returns once it answers; one that still runs is killed
    /// first.
    pub fn restart(&mut self) {
        self.daemon.restart();
        assert!(
            self.comes_up(),
            "the server did not start again:\n{}",
            self.log()
        );
    }

    /// Waits until the server answers; false if it ends instead.
    fn comes_up(&mut self) -> bool {
        let log = self.directory().join("log");
        eventually_or(
            "the server answers",
            START_LIMIT,
            || match self.daemon.ended() {
                Some(_) => Some(false),
                None => self.answers().then_some(true),
            },
            || read(&log),
        )
    }

    fn answers(&self) -> bool {
        // While it loads its files it connects, but refuses PING.
        self.connect(PING_LIMIT)
            .and_then(|mut connection| redis::cmd("PING").query::<String>(&mut connection))
            .is_ok()
    }
}

impl Deref for RedisServer {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for RedisServer {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

/// A port that nobody listens on just now. It lies below those that the kernel gives to outgoing connections,
/// which could take it while a server is down.
pub(crate) fn free_port() -> u16 {
    let random = || 10_000 + (RandomState::new().hash_one(0) % 20_000) as u16;
    std::iter::repeat_with(random)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("the iterator has no end")
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn set(server: &RedisServer, key: &str, value: &str) {
        redis::cmd("SET")
            .arg(key)
            .arg(value)
            .exec(&mut server.connection())
            .unwrap();
    }

    fn get(server: &RedisServer, key: &str) -> Option<String> {
        redis::cmd("GET")
            .arg(key)
            .query(&mut server.connection())
            .unwrap()
    }

    fn ping(url: String) -> RedisResult<String> {
        #[expect(
            clippy::disallowed_types,
            reason = "as a client of the test would connect"
        )]
        let mut connection = redis::Client::open(url)?.get_connection()?;
        redis::cmd("PING").query(&mut connection)
    }

    #[test]
    fn answers_on_a_socket_and_is_gone_with_its_files_when_dropped() {
        let server = RedisServer::start();
        let directory = server.directory().to_owned();
        assert_eq!(
            (server.port(), ping(server.url()).unwrap().as_str()),
            (None, "PONG")
        );
        let url = server.url();
        drop(server);
        assert!(!directory.exists());
        assert!(ping(url).is_err());
    }

    #[test]
    fn answers_on_tcp_with_any_password_and_with_settings() {
        let password = "p:ss/w@rd \"%\\";
        let server = RedisServer::builder()
            .tcp(true)
            .password(password)
            .config("maxmemory", "20mb")
            .start();
        assert_eq!(ping(server.url()).unwrap(), "PONG");
        let port = server.port().unwrap();
        assert!(ping(format!("redis://127.0.0.1:{port}")).is_err());
        let memory: (String, u64) = redis::cmd("CONFIG")
            .arg(&["GET", "maxmemory"])
            .query(&mut server.connection())
            .unwrap();
        assert_eq!(memory.1, 20 << 20);
    }

    #[test]
    fn keeps_its_data_and_address_over_kills_and_restarts() {
        let mut server = RedisServer::builder()
            .aof(true)
            .tcp(true)
            .config("appendfsync", "always")
            .start();
        let (url, first) = (server.url(), server.pid());
        set(&server, "key", "value");
        server.kill();
        assert!(ping(url.clone()).is_err());
        server.restart();
        assert_ne!(server.pid(), first);
        assert_eq!(
            (server.url(), get(&server, "key").as_deref()),
            (url.clone(), Some("value"))
        );
        server.shutdown();
        assert!(ping(url).is_err());
        server.restart();
        assert_eq!(get(&server, "key").as_deref(), Some("value"));
    }

    #[test]
    fn a_stopped_server_answers_when_it_is_resumed() {
        let mut server = RedisServer::start();
        let mut connection = server.connection();
        server.stop();
        let brief = Duration::from_millis(50);
        connection.set_read_timeout(Some(brief)).unwrap();
        let asked = Instant::now();
        let error = redis::cmd("PING")
            .query::<String>(&mut connection)
            .unwrap_err();
        assert!(error.is_timeout() && asked.elapsed() >= brief, "{error}");
        server.resume();
        assert_eq!(ping(server.url()).unwrap(), "PONG");
    }

    #[test]
    #[should_panic(expected = "Bad directive")]
    fn a_server_that_does_not_start_shows_its_log() {
        let _ = RedisServer::builder()
            .config("no-such-setting", "1")
            .start();
    }

    #[test]
    fn the_shared_server_is_one() {
        assert_eq!(RedisServer::shared().pid(), RedisServer::shared().pid());
        assert_eq!(ping(RedisServer::shared().url()).unwrap(), "PONG");
    }
}
