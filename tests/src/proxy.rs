//! A faulty network between a client and a server: a proxy that loses, delays and cuts on request.

mod network;
mod stream;
mod trap;

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::redis_server::RedisServer;
use crate::scratch::Scratch;
use network::{Flow, Network, accept};
use stream::{Address, Listener};
use trap::Trap;

pub use trap::Hold;

/// Passes connections on to a server, over the kind of socket that the server's URL names, until it is told to
/// misbehave. Drop cuts all of them.
#[derive(Debug)]
pub struct Proxy {
    network: Arc<Network>,
    address: Address,
    url: String,
    acceptor: Option<JoinHandle<()>>,
    /// The directory of the socket, removed with the proxy.
    _files: Scratch,
}

impl Proxy {
    /// A proxy in front of `server`, which may be killed and restarted behind it.
    #[must_use]
    pub fn to(server: &RedisServer) -> Self {
        let files = Scratch::new();
        let (target, listener, address, url) = if let Some(port) = server.port() {
            let (listener, own) = listen_on_tcp();
            let url = server.tcp_url(own);
            (Address::Tcp(port), listener, Address::Tcp(own), url)
        } else {
            let own = files.join("s");
            let (listener, url) = (listen_on(&own), server.unix_url(&own));
            (
                Address::Unix(server.socket()),
                listener,
                Address::Unix(own),
                url,
            )
        };
        let network = Arc::new(Network::default());
        let acceptor = thread::spawn({
            let network = Arc::clone(&network);
            move || accept(&network, &listener, &target)
        });
        Self {
            network,
            address,
            url,
            acceptor: Some(acceptor),
            _files: files,
        }
    }

    /// The server's URL, by way of this proxy.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Begins or ends a black hole. The connections that it meets, open or new, stay open and silent for good, as
    /// after a lost route: neither side learns that the other has closed. Connections made after its end work.
    pub fn hole(&self, hole: bool) {
        let mut state = self.network.lock();
        state.hole = hole;
        if hole {
            state.flows.values_mut().for_each(|flow| flow.dark = true);
        }
    }

    /// Closes all connections on both sides; new ones work.
    pub fn cut(&self) {
        let cut = std::mem::take(&mut self.network.lock().flows);
        cut.values().for_each(Flow::close);
        self.network.changed();
    }

    /// Holds back every chunk, each way, for `delay`; zero ends it.
    pub fn delay(&self, delay: Duration) {
        self.network.lock().delay = delay;
    }

    /// Passes everything on in pieces of so many bytes, each way; 0 ends it.
    pub fn slice(&self, bytes: usize) {
        self.network.lock().slice = bytes;
    }

    /// Lets so many bytes a second pass, each way of each connection; 0 ends it.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.network.lock().rate = bytes_per_second;
    }

    /// Waits for the first call that contains `text`, and holds it or its reply until the trap is opened.
    pub fn trap(&self, text: &str, hold: Hold) {
        self.network.lock().trap = Some(Trap::new(text, hold));
    }

    /// Whether the trap has met its call.
    #[must_use]
    pub fn has_trapped(&self) -> bool {
        let state = self.network.lock();
        state.trap.as_ref().is_some_and(|trap| trap.is_sprung)
    }

    /// Takes the trap away. What it held is lost, and its connection with it.
    pub fn open_trap(&self) {
        self.network.lock().trap = None;
        self.network.changed();
    }

    /// Puts the second text in the place of the first in all that the client sends, and the first in the place of the
    /// second in all that it gets: to the server it is another client. Both are of one length, as Redis counts bytes.
    ///
    /// # Panics
    ///
    /// Where they are not.
    pub fn translate(&self, texts: Option<(&str, &str)>) {
        let same = texts.is_none_or(|(client, server)| client.len() == server.len());
        assert!(same, "the texts differ in length: {texts:?}");
        self.network.lock().translation =
            texts.map(|(client, server)| (client.into(), server.into()));
    }

    /// Loses the next reply on any connection, and closes that connection: the server did what it was asked, and
    /// the client cannot know. Called twice, two are lost.
    pub fn drop_next_reply(&self) {
        self.network.lock().replies_to_drop += 1;
    }

    /// How many replies were lost by [`Proxy::drop_next_reply`].
    #[must_use]
    pub fn replies_dropped(&self) -> u64 {
        self.network.lock().replies_dropped
    }

    /// How many connections are open now, without those in a black hole.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.network
            .lock()
            .flows
            .values()
            .filter(|flow| !flow.dark)
            .count()
    }

    /// How many connections were ever made.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.network.lock().accepted
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.network.lock().closed = true;
        self.cut();
        // A last connection wakes the acceptor, which then sees that the proxy is closed.
        let woken = self.address.connect().is_ok();
        if let Some(acceptor) = self.acceptor.take().filter(|_| woken) {
            let _ = acceptor.join();
        }
    }
}

fn listen_on_tcp() -> (Listener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let port = listener
        .local_addr()
        .expect("a listener has an address")
        .port();
    (Listener::Tcp(listener), port)
}

fn listen_on(socket: &Path) -> Listener {
    let listener = UnixListener::bind(socket);
    Listener::Unix(
        listener
            .unwrap_or_else(|error| panic!("could not listen on {}: {error}", socket.display())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually;
    use redis::{Connection, RedisResult};
    use std::time::Instant;

    const LIMIT: Duration = Duration::from_secs(10);
    /// How long a client waits before it takes the server for silent.
    const SILENCE: Duration = Duration::from_millis(100);

    fn client(proxy: &Proxy) -> Connection {
        try_client(proxy, LIMIT).unwrap()
    }

    fn try_client(proxy: &Proxy, limit: Duration) -> RedisResult<Connection> {
        #[expect(
            clippy::disallowed_types,
            reason = "as a client of the test would connect"
        )]
        let client = redis::Client::open(proxy.url())?;
        client.get_connection_with_timeout(limit)
    }

    fn increment(connection: &mut Connection) -> RedisResult<u64> {
        redis::cmd("INCR").arg("n").query(connection)
    }

    fn both_kinds() -> [(RedisServer, Proxy); 2] {
        [false, true].map(|tcp| {
            let server = RedisServer::builder()
                .tcp(tcp)
                .password("pass word")
                .start();
            let proxy = Proxy::to(&server);
            (server, proxy)
        })
    }

    #[test]
    fn passes_and_counts_connections() {
        for (_server, proxy) in both_kinds() {
            let (mut one, two) = (client(&proxy), client(&proxy));
            assert_eq!(increment(&mut one).unwrap(), 1);
            assert_eq!((proxy.connections(), proxy.accepted()), (2, 2));
            drop(two);
            eventually("the proxy sees the end", LIMIT, || {
                (proxy.connections() == 1).then_some(())
            });
        }
    }

    #[test]
    fn passes_a_large_value_whole() {
        let server = RedisServer::start();
        let proxy = Proxy::to(&server);
        let value = vec![7_u8; 5 << 20];
        let mut connection = client(&proxy);
        redis::cmd("SET")
            .arg("k")
            .arg(&value)
            .exec(&mut connection)
            .unwrap();
        let got: Vec<u8> = redis::cmd("GET").arg("k").query(&mut connection).unwrap();
        assert!(got == value);
    }

    #[test]
    fn a_hole_swallows_its_connections_for_good() {
        for (_server, proxy) in both_kinds() {
            let mut old = client(&proxy);
            proxy.hole(true);
            old.set_read_timeout(Some(SILENCE)).unwrap();
            assert!(increment(&mut old).unwrap_err().is_timeout());
            assert!(try_client(&proxy, SILENCE).is_err());
            proxy.hole(false);
            assert!(increment(&mut old).is_err());
            assert_eq!(increment(&mut client(&proxy)).unwrap(), 1);
        }
    }

    #[test]
    fn a_cut_ends_all_connections_and_new_ones_work() {
        for (server, proxy) in both_kinds() {
            let mut old = client(&proxy);
            proxy.cut();
            assert!(increment(&mut old).unwrap_err().is_connection_dropped());
            assert_eq!(increment(&mut client(&proxy)).unwrap(), 1);
            assert_eq!(increment(&mut server.connection()).unwrap(), 2);
        }
    }

    #[test]
    fn a_dropped_reply_is_of_a_call_that_ran() {
        for (server, proxy) in both_kinds() {
            let mut connection = client(&proxy);
            proxy.drop_next_reply();
            assert!(
                increment(&mut connection)
                    .unwrap_err()
                    .is_connection_dropped()
            );
            assert_eq!(proxy.replies_dropped(), 1);
            assert_eq!(increment(&mut server.connection()).unwrap(), 2);
            assert_eq!(increment(&mut client(&proxy)).unwrap(), 3);
        }
    }

    #[test]
    fn a_delay_holds_back_both_ways() {
        let server = RedisServer::start();
        let proxy = Proxy::to(&server);
        let mut connection = client(&proxy);
        proxy.delay(Duration::from_millis(30));
        let asked = Instant::now();
        increment(&mut connection).unwrap();
        assert!(asked.elapsed() >= Duration::from_millis(60));
    }

    #[test]
    fn a_slow_line_passes_all_of_it() {
        let server = RedisServer::start();
        let proxy = Proxy::to(&server);
        let mut connection = client(&proxy);
        proxy.slice(1);
        assert_eq!(increment(&mut connection).unwrap(), 1);
        proxy.slice(0);
        proxy.throttle(1000);
        let asked = Instant::now();
        let value = [7_u8; 200];
        let mut set = redis::cmd("SET");
        set.arg("k").arg(&value[..]).exec(&mut connection).unwrap();
        assert!(asked.elapsed() >= Duration::from_millis(200));
    }

    #[test]
    fn a_trap_holds_a_call_or_its_reply() {
        let server = RedisServer::start();
        let proxy = Proxy::to(&server);
        let springs = |hold| {
            proxy.trap("INCR", hold);
            let mut connection = client(&proxy);
            let caller = thread::spawn(move || increment(&mut connection).ok());
            eventually("the trap is sprung", LIMIT, || {
                proxy.has_trapped().then_some(())
            });
            proxy.open_trap();
            caller.join().unwrap()
        };
        assert_eq!(springs(Hold::Request), None);
        assert_eq!(springs(Hold::Reply), None);
        assert_eq!(springs(Hold::Nothing), Some(2));
    }

    #[test]
    fn a_client_is_another_one_to_the_server() {
        let server = RedisServer::start();
        let proxy = Proxy::to(&server);
        proxy.translate(Some(("old", "new")));
        let mut connection = client(&proxy);
        let set = ["SET", "old", "an old value"];
        redis::cmd(set[0])
            .arg(&set[1..])
            .exec(&mut connection)
            .unwrap();
        let got: String = redis::cmd("GET").arg("old").query(&mut connection).unwrap();
        let there: String = redis::cmd("GET")
            .arg("new")
            .query(&mut server.connection())
            .unwrap();
        assert_eq!(
            (got.as_str(), there.as_str()),
            ("an old value", "an new value")
        );
    }

    #[test]
    fn a_killed_server_ends_its_connections_and_may_return() {
        let mut server = RedisServer::start();
        let proxy = Proxy::to(&server);
        let mut connection = client(&proxy);
        server.kill();
        assert!(increment(&mut connection).is_err());
        assert!(try_client(&proxy, LIMIT).is_err());
        server.restart();
        assert_eq!(increment(&mut client(&proxy)).unwrap(), 1);
    }
}
