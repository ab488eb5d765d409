//! From a URL and the environment to something that can be connected to; secrets never show.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, RedisConnectionInfo, RedisResult,
};

use super::cluster::ClusterGuide;
use super::exposure::Guard;
use super::lane::Lane;
use super::local::LocalBroker;
use super::sentinel::{self, SentinelGuide};
use super::server::Server;
use super::topology::{Guide, Topology};
use super::{login, tls};
use crate::config::Config;
use crate::error::{Error, Result};

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Where a URL leads.
pub(crate) enum Place {
    /// To one server.
    One(Access),
    /// To a Redis Cluster, by way of the nodes that the URL names.
    Cluster {
        seeds: Vec<Endpoint>,
        access: Access,
    },
    /// To whichever server the sentinels call the primary of this name.
    Sentinel {
        sentinels: Vec<Endpoint>,
        primary: String,
        access: Access,
        /// How the sentinels themselves are logged in to.
        ask: Access,
    },
}

impl Place {
    /// Where this URL leads, with the login that the configuration gives.
    pub(crate) fn new(config: &Config, url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        match (base, kind) {
            ("redis" | "rediss", "cluster") => Self::cluster(config, &Parts::new(base, rest)),
            ("redis" | "rediss", "sentinel") => Self::sentinel(config, &Parts::new(base, rest)),
            ("redis" | "rediss" | "unix", "") | ("redis", "unix") => {
                Ok(Self::One(Access::new(config, url)?))
            }
            _ => Err(Error::BadUrl(
                "it begins with none of redis://, rediss://, redis+unix://, redis+cluster://, redis+sentinel://"
                    .into(),
            )),
        }
    }

    /// The lane that leads there; one try may take `response`.
    pub(crate) fn lane(self, local: Option<LocalBroker>, response: Duration) -> Result<Lane> {
        let shown = |endpoints: &[Endpoint]| {
            let names: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
            names.join(",")
        };
        Ok(match self {
            Self::One(access) => {
                let server = Server::alone(access.client()?, access.at(), local);
                Lane::to_one(Arc::new(server), response)
            }
            Self::Cluster { seeds, access } => {
                let at = shown(&seeds);
                let guide = Guide::Cluster(ClusterGuide::new(seeds, access));
                Lane::to_many(Arc::new(Topology::new(guide, at)), response)
            }
            Self::Sentinel {
                sentinels,
                primary,
                access,
                ask,
            } => {
                let at = format!("{primary} of {}", shown(&sentinels));
                let guide = SentinelGuide::new(sentinels, primary, access, ask);
                let topology = Topology::new(Guide::Sentinel(guide.clone()), at);
                let topology = Arc::new(topology);
                sentinel::watch(&topology, &guide)?;
                Lane::to_many(topology, response)
            }
        })
    }

    /// How its servers are reached.
    pub(crate) fn access(&self) -> &Access {
        match self {
            Self::One(access) | Self::Cluster { access, .. } | Self::Sentinel { access, .. } => {
                access
            }
        }
    }

    /// The hosts that the URL names; none for a socket.
    pub(crate) fn hosts(&self) -> Vec<Endpoint> {
        match self {
            Self::One(access) => Endpoint::of(access.info.addr()).into_iter().collect(),
            Self::Cluster { seeds: hosts, .. }
            | Self::Sentinel {
                sentinels: hosts, ..
            } => hosts.clone(),
        }
    }

    /// The server that the URL names first; `None` where only sentinels know one.
    pub(crate) fn first(&self) -> Option<ConnectionInfo> {
        match self {
            Self::One(access) => Some(access.info().clone()),
            Self::Cluster { seeds, access } => {
                let client = access.client_of(seeds.first()?).ok()?;
                Some(client.get_connection_info().clone())
            }
            Self::Sentinel { .. } => None,
        }
    }

    fn cluster(config: &Config, parts: &Parts<'_>) -> Result<Self> {
        if !matches!(parts.path, "" | "0") {
            return Err(Error::BadUrl(
                "a Redis Cluster has the database 0 alone, so the URL ends with its hosts".into(),
            ));
        }
        Ok(Self::Cluster {
            seeds: parts.endpoints(REDIS_PORT)?,
            access: Access::new(config, &parts.url_of_one(""))?,
        })
    }

    fn sentinel(config: &Config, parts: &Parts<'_>) -> Result<Self> {
        let (primary, database) = parts.path.split_once('/').unwrap_or((parts.path, ""));
        if primary.is_empty() {
            return Err(Error::BadUrl(
                "it lacks the name of the primary behind the sentinels, as in redis+sentinel://h1,h2/mymaster"
                    .into(),
            ));
        }
        if !database.bytes().all(|byte| byte.is_ascii_digit()) {
            let why = "its database, behind the name of the primary, is no number";
            return Err(Error::BadUrl(why.into()));
        }
        let access = Access::new(config, &parts.url_of_one(database))?;
        Ok(Self::Sentinel {
            sentinels: parts.endpoints(SENTINEL_PORT)?,
            primary: primary.to_owned(),
            ask: access.to_sentinels(config)?,
            access,
        })
    }
}

/// The parts of a URL of several hosts.
struct Parts<'a> {
    scheme: &'a str,
    /// User and password with the `@` behind them, or nothing.
    login: &'a str,
    hosts: &'a str,
    path: &'a str,
    /// From the `?` or `#` on.
    rest: &'a str,
}

impl<'a> Parts<'a> {
    fn new(scheme: &'a str, rest: &'a str) -> Self {
        let (front, rest) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
        let (authority, path) = front.split_once('/').unwrap_or((front, ""));
        let (login, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        Self {
            scheme,
            login,
            hosts,
            path: path.trim_end_matches('/'),
            rest,
        }
    }

    fn endpoints(&self, port: u16) -> Result<Vec<Endpoint>> {
        let endpoint = |text| {
            Endpoint::parse(text, port).ok_or_else(|| {
                Error::BadUrl(
                    "a host of it is empty, or has a port that is no number from 1 to 65535".into(),
                )
            })
        };
        self.hosts.split(',').map(endpoint).collect()
    }

    /// What the URL of one server with the same login would be: from it comes all but the address.
    fn url_of_one(&self, database: &str) -> String {
        let Self {
            scheme,
            login,
            rest,
            ..
        } = self;
        format!("{scheme}://{login}localhost/{database}{rest}")
    }
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Endpoint {
    /// Where an address leads; `None` for a socket.
    pub(crate) fn of(address: &ConnectionAddr) -> Option<Self> {
        match address {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some(Self {
                    host: host
                        .trim_start_matches('[')
                        .trim_end_matches(']')
                        .to_owned(),
                    port: *port,
                })
            }
            _ => None,
        }
    }

    /// Reads `host`, `host:port`, `[v6]:port`; `None` where it is none of them.
    fn parse(text: &str, default_port: u16) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (text, default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty() && port != 0).then(|| Self {
            host: host.to_owned(),
            port,
        })
    }

    /// Reads an address as a node of a Cluster names another one: `host:port`, with the bare address of an IPv6 host.
    /// Where it names no host, it means the one that `told` it.
    pub(crate) fn from_node(text: &str, told: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Self::announced(host, port.parse().ok()?, told)
    }

    /// The node of this host and port; `None` where the one that told it does not know where it is.
    pub(crate) fn announced(host: &str, port: u16, told: &Self) -> Option<Self> {
        let host = match host {
            "" => &told.host,
            "?" => return None,
            host => host,
        };
        (port != 0).then(|| Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

/// How servers are connected to and logged in to: everything but their address.
#[derive(Clone)]
pub(crate) struct Access {
    info: Arc<ConnectionInfo>,
    guard: Guard,
}

impl Access {
    fn new(config: &Config, url: &str) -> Result<Self> {
        let info = url
            .into_connection_info()
            .map_err(|e| Error::BadUrl(e.category().to_owned()))?;
        let mut settings = info.redis_settings().clone();
        if settings.password().is_none()
            && let Some(password) = config.password.read()?
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
        Ok(Self {
            guard: Guard::new(config, &info),
            info: Arc::new(tls::with_certificates(info, &config.tls)?),
        })
    }

    /// The same towards sentinels, which have a login of their own, or none.
    fn to_sentinels(&self, config: &Config) -> Result<Self> {
        let mut settings = RedisConnectionInfo::default();
        if let Some(password) = config.sentinel_password.read()? {
            settings = settings.set_password(password);
        }
        if let Some(username) = &config.sentinel_username {
            settings = settings.set_username(username);
        }
        Ok(self.with(settings))
    }

    /// The same by another protocol.
    pub(crate) fn with_protocol(&self, protocol: ProtocolVersion) -> Self {
        let settings = self.info.redis_settings().clone().set_protocol(protocol);
        self.with(settings)
    }

    fn with(&self, settings: RedisConnectionInfo) -> Self {
        let info = ConnectionInfo::clone(&self.info);
        Self {
            info: Arc::new(info.set_redis_settings(settings)),
            guard: self.guard.clone(),
        }
    }

    /// What is asked of their hosts.
    pub(crate) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// All of it, with the address that the URL names.
    pub(crate) fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Who logs in to them.
    pub(crate) fn login(&self) -> &RedisConnectionInfo {
        self.info.redis_settings()
    }

    /// A client for the server that the URL names.
    pub(crate) fn client(&self) -> Result<Client> {
        Client::open(ConnectionInfo::clone(&self.info))
            .map_err(|e| Error::BadUrl(e.category().to_owned()))
    }

    /// The address that the URL names.
    pub(crate) fn at(&self) -> String {
        self.info.addr().to_string()
    }

    /// A connection to the server at this address, which may have been heard of only now.
    pub(crate) async fn connect(
        &self,
        node: &Endpoint,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        self.guard.admit(node).await?;
        let client = self.client_of(node)?;
        client
            .get_multiplexed_async_connection_with_config(config)
            .await
    }

    /// A client for the server at this address.
    pub(crate) fn client_of(&self, node: &Endpoint) -> RedisResult<Client> {
        let Endpoint { host, port } = node.clone();
        let address = match self.info.addr().clone() {
            ConnectionAddr::TcpTls {
                insecure,
                tls_params,
                ..
            } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure,
                tls_params,
            },
            _ => ConnectionAddr::Tcp(host, port),
        };
        Client::open(ConnectionInfo::clone(&self.info).set_addr(address))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Result<Place> {
        Place::new(&Config::default(), url)
    }

    fn names(endpoints: &[Endpoint]) -> String {
        let names: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
        names.join(" ")
    }

    #[test]
    fn a_cluster_has_several_seeds_and_one_login() {
        let Ok(Place::Cluster { seeds, access }) =
            place("redis+cluster://u:p%40s@h1:7000,h2,[::1]:7002/")
        else {
            panic!("a cluster");
        };
        assert_eq!(names(&seeds), "h1:7000 h2:6379 [::1]:7002");
        let settings = access.info.redis_settings();
        assert_eq!(
            (settings.username(), settings.password()),
            (Some("u"), Some("p@s"))
        );
        let client = access.client_of(&seeds[1]).unwrap();
        assert_eq!(client.get_connection_info().addr().to_string(), "h2:6379");
    }

    #[test]
    fn sentinels_lead_to_a_primary_by_its_name() {
        let Ok(Place::Sentinel {
            sentinels,
            primary,
            access,
            ask,
        }) = place("rediss+sentinel://:secret@s1,s2:26380/mymaster/3")
        else {
            panic!("sentinels");
        };
        assert_eq!(
            (names(&sentinels).as_str(), primary.as_str()),
            ("s1:26379 s2:26380", "mymaster")
        );
        assert_eq!(access.info.redis_settings().db(), 3);
        assert_eq!(ask.info.redis_settings().password(), None);
        assert!(matches!(access.info.addr(), ConnectionAddr::TcpTls { .. }));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for (url, why) in [
            ("redis+cluster://:hunter2@h1/4", "database 0"),
            ("redis+cluster://:hunter2@h1,,h2", "empty"),
            ("redis+cluster://:hunter2@h1:port", "port"),
            ("redis+sentinel://:hunter2@h1", "name of the primary"),
            ("redis+sentinel://:hunter2@h1/m/x", "database"),
            ("http://:hunter2@h1", "redis+cluster://"),
        ] {
            let error = place(url).err().unwrap().to_string();
            assert!(error.contains(why) && !error.contains("hunter"), "{error}");
        }
    }

    #[test]
    fn a_node_without_a_host_is_where_it_was_told() {
        let told = Endpoint::parse("h1:1", 0).unwrap();
        let node = |text| Endpoint::from_node(text, &told).map(|node| node.to_string());
        assert_eq!(node(":7001").as_deref(), Some("h1:7001"));
        assert_eq!(node("::1:7001").as_deref(), Some("[::1]:7001"));
        assert_eq!(node("?:7001"), None);
    }
}
