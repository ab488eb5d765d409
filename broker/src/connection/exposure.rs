//! Who else could listen or come in: a broker on a network needs a password, and on a public one TLS as well.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, RedisResult};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::address::{Endpoint, Place};
use super::refusal::Refusal;
use super::retry::explain;
use crate::config::{Config, Tls};
use crate::error::Result;

/// What is not known by then can't be connected to either.
const LOOKUP: Duration = Duration::from_secs(2);

/// What is not safe about a broker, or not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Insecurity {
    /// It is on a network, and there is neither a password nor a client certificate. Nothing was sent.
    #[error("is on a network, and there is no password for it")]
    NoPassword,

    /// It is on a public network, or TLS files are named, and the connection would not be encrypted. Nothing was sent.
    #[error("is on a network where others can listen, and the connection would not be encrypted")]
    NoTls,

    /// Both. Nothing was sent.
    #[error("is on a public network, without a password and without TLS")]
    Neither,

    /// It has no password set, though one was given: everybody can use it.
    #[error("asks nobody for a password, though there is one for it here")]
    OpenToAll,

    /// It takes this process for another user than was asked for.
    #[error("takes this process for the user '{user}', not for '{asked}'")]
    OtherUser {
        /// Who the server says that this process is.
        user: String,
        /// Who it should be.
        asked: String,
    },
}

impl Insecurity {
    /// What to do about it, in one sentence.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoPassword => {
                "name the file of its password in PMQ_REDIS_PASSWORD_FILE; who trusts everybody on this network says --insecure (PMQ_INSECURE=1)"
            }
            Self::NoTls => {
                "use rediss://; who trusts everybody on the way says --insecure (PMQ_INSECURE=1)"
            }
            Self::Neither => {
                "use rediss:// and PMQ_REDIS_PASSWORD_FILE; who trusts everybody on the way says --insecure (PMQ_INSECURE=1)"
            }
            Self::OpenToAll => {
                "set the password on the server too (requirepass, or ACL SETUSER), or name none here"
            }
            Self::OtherUser { .. } => "give the password of this user as well, or name no user",
        })
    }
}

/// Who can reach an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// This machine alone.
    Machine,
    /// One network, which somebody runs.
    Private,
    /// Anybody. Also what carriers share among their customers (100.64.0.0/10).
    Public,
}

impl Reach {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            ip if ip.is_loopback() => Self::Machine,
            IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() => Self::Private,
            IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => Self::Private,
            _ => Self::Public,
        }
    }

    /// What a connection to such an address lacks.
    fn lacks(self, has_login: bool, has_tls: bool, wants_tls: bool) -> Option<Insecurity> {
        let needs_tls = self == Self::Public || wants_tls;
        match (has_login, has_tls || !needs_tls) {
            _ if self == Self::Machine => None,
            (true, true) => None,
            (false, true) => Some(Insecurity::NoPassword),
            (true, false) => Some(Insecurity::NoTls),
            (false, false) => Some(Insecurity::Neither),
        }
    }
}

/// Refuses a broker that others could listen to or use as well, unless the configuration says otherwise.
pub(crate) async fn check(place: &Place) -> Result<()> {
    for host in place.hosts() {
        let admitted = place.access().guard().admit(&host).await;
        admitted.map_err(|error| explain(error, &host.to_string(), "connect"))?;
    }
    Ok(())
}

/// What is asked of each host before anything is sent there: of those that the URL names, and of those of which a Cluster or
/// sentinels tell later.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    /// What a connection to an address on a private network would lack.
    private: Option<Insecurity>,
    /// What one to a public address would lack: that is at least as much.
    public: Option<Insecurity>,
}

impl Guard {
    /// For hosts that are reached in this way.
    pub(super) fn new(config: &Config, access: &ConnectionInfo) -> Self {
        let has_tls = matches!(access.addr(), ConnectionAddr::TcpTls { .. });
        let has_password = access.redis_settings().password().is_some();
        // A server that asks for certificates needs no password.
        let has_login = has_password || (has_tls && config.tls.cert.is_some());
        let wants_tls = config.tls != Tls::default();
        let lacks = |reach: Reach| {
            let lacks = reach.lacks(has_login, has_tls, wants_tls);
            lacks.filter(|_| !config.insecure)
        };
        Self {
            private: lacks(Reach::Private),
            public: lacks(Reach::Public),
        }
    }

    /// Refuses a host that others could listen to or use as well. One that is not found is not reached either: it might be
    /// found a moment later, unchecked.
    pub(super) async fn admit(&self, host: &Endpoint) -> RedisResult<()> {
        if self.public.is_none() {
            return Ok(());
        }
        let lacks = match widest(host).await? {
            Reach::Machine => None,
            Reach::Private => self.private.clone(),
            Reach::Public => self.public.clone(),
        };
        let at = host.to_string();
        lacks.map_or(Ok(()), |why| Err(Refusal::Insecure { at, why }.into()))
    }
}

/// How far the addresses of a host reach.
async fn widest(Endpoint { host, port }: &Endpoint) -> io::Result<Reach> {
    let addresses = timeout(LOOKUP, lookup_host((host.as_str(), *port))).await??;
    let widest = addresses.map(|address| Reach::of(address.ip())).max();
    widest.ok_or_else(|| io::Error::other("the host has no address"))
}

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo as _;

    use super::*;
    use crate::error::Error;

    #[test]
    fn addresses_reach_as_far_as_their_ranges_say() {
        let reach = |text: &str| Reach::of(text.parse().unwrap());
        for text in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(reach(text), Reach::Machine, "{text}");
        }
        let private = [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.1.1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ];
        for text in private {
            assert_eq!(reach(text), Reach::Private, "{text}");
        }
        let public = [
            "172.32.0.1",
            "100.64.0.1",
            "8.8.8.8",
            "2001:db8::1",
            "::ffff:8.8.8.8",
            "0.0.0.0",
        ];
        for text in public {
            assert_eq!(reach(text), Reach::Public, "{text}");
        }
    }

    async fn refusal(url: &str, change: impl FnOnce(&mut Config)) -> Option<Insecurity> {
        let mut config = Config::default();
        change(&mut config);
        let access = url.into_connection_info().unwrap();
        // Not by way of a place, which would read the files.
        let host = Endpoint::of(access.addr())?;
        let error = Guard::new(&config, &access).admit(&host).await.err()?;
        match Refusal::of(&error) {
            Some(Refusal::Insecure { why, .. }) => Some(why.clone()),
            _ => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn the_further_it_reaches_the_more_it_needs() {
        let cases = [
            ("redis+unix:///s", None),
            ("redis://localhost", None),
            ("redis://[::1]:1", None),
            ("redis://10.0.0.1", Some(Insecurity::NoPassword)),
            ("rediss://10.0.0.1", Some(Insecurity::NoPassword)),
            ("redis://:p@10.0.0.1", None),
            ("redis://[fd00::1]", Some(Insecurity::NoPassword)),
            ("redis://:p@8.8.8.8", Some(Insecurity::NoTls)),
            ("rediss://8.8.8.8", Some(Insecurity::NoPassword)),
            ("redis://8.8.8.8", Some(Insecurity::Neither)),
            ("rediss://:p@8.8.8.8", None),
        ];
        for (url, expected) in cases {
            assert_eq!(refusal(url, |_| ()).await, expected, "{url}");
            assert_eq!(refusal(url, |config| config.insecure = true).await, None);
        }
    }

    #[tokio::test]
    async fn a_host_that_is_not_found_is_not_connected_to() {
        let config = Config::default();
        let place = Place::new(&config, "redis://no-such-host.invalid").unwrap();
        let error = check(&place).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    }

    #[tokio::test]
    async fn who_names_tls_files_gets_tls_and_a_certificate_is_a_login() {
        let names_ca = |config: &mut Config| config.tls.ca = Some("/ca".into());
        let names_cert = |config: &mut Config| config.tls.cert = Some("/cert".into());
        let no_tls = Some(Insecurity::NoTls);
        assert_eq!(refusal("redis://:p@10.0.0.1", names_ca).await, no_tls);
        assert_eq!(refusal("redis://localhost", names_ca).await, None);
        assert_eq!(refusal("rediss://8.8.8.8", names_cert).await, None);
        let nothing = Some(Insecurity::Neither);
        assert_eq!(refusal("redis://10.0.0.1", names_cert).await, nothing);
    }

    #[tokio::test]
    async fn each_host_of_a_url_counts() {
        let config = Config::default();
        for (url, at) in [
            ("redis+cluster://127.0.0.1:1,10.0.0.1:2", "10.0.0.1:2"),
            ("redis+sentinel://127.0.0.1,10.0.0.1/m", "10.0.0.1:26379"),
        ] {
            let place = Place::new(&config, url).unwrap();
            let error = check(&place).await.unwrap_err().to_string();
            assert!(error.contains(at), "{error}");
        }
        let place = Place::new(&config, "redis+cluster://:p@127.0.0.1:1,10.0.0.1:2").unwrap();
        assert!(check(&place).await.is_ok());
    }
}
