//! Who else could read along, come in, or do damage: the connection, the login, the rights of this user.

use std::net::IpAddr;

use pmq_broker::access::Access;
use pmq_broker::{Broker, Config};

use super::Check;
use crate::output::Mood;

/// Who can reach the server, as far as its address tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Whoever may open a file.
    Socket,
    /// Everybody on this machine.
    Machine,
    /// Everybody on a network.
    Network,
}

impl Place {
    /// The place of an address as pmq shows it: the path of a socket, or each `host:port` that the URL names.
    fn of(address: &str) -> Self {
        if address.starts_with('/') {
            return Self::Socket;
        }
        let on_machine = |endpoint: &str| {
            let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        };
        // Behind sentinels it begins with the name of the primary: `mymaster of h1:26379,h2:26379`.
        let hosts = address.split(" of ").last().unwrap_or(address);
        if hosts.split(',').all(on_machine) {
            Self::Machine
        } else {
            Self::Network
        }
    }
}

/// What there is to say about how this user comes in.
pub(super) async fn checks(broker: &Broker, config: &Config) -> anyhow::Result<Vec<Check>> {
    let place = Place::of(broker.address());
    let access = broker.access().await?;
    // Who may not ask is told what INFO alone tells.
    let settings = broker.server_settings(&["protected-mode"]).await;
    let settings = settings.unwrap_or_default();
    let protected = settings.get("protected-mode").map(String::as_str);
    let mut checks = vec![
        tls(place, config.url.as_deref().unwrap_or_default()),
        login(place, &access, protected),
    ];
    checks.extend(width(place, &access));
    checks.push(authkey(place, broker, config.encrypt));
    Ok(checks)
}

/// What keeps whoever can write to the server from having workers run anything.
fn authkey(place: Place, broker: &Broker, encrypts: bool) -> Check {
    if broker.is_local() {
        return Check::good(
            "authkey",
            "not used: nobody but this user can write to the local broker",
        );
    }
    let ids = broker.authkey_ids();
    let Some((signs, others)) = ids.split_first() else {
        return no_authkey(place);
    };
    let others: Vec<_> = others.iter().map(ToString::to_string).collect();
    let others = if others.is_empty() {
        String::new()
    } else {
        format!(", {} is accepted as well", others.join(", "))
    };
    let hidden = if encrypts {
        "bodies and results are encrypted"
    } else {
        "nothing is encrypted"
    };
    let found = format!(
        "{signs} signs{others}: with it workers run, and consumers believe, only what is signed; {hidden}"
    );
    Check::good("authkey", found)
}

fn no_authkey(place: Place) -> Check {
    let found =
        "none: whoever can write to this Redis decides what workers run and what tasks come to";
    match place {
        Place::Socket | Place::Machine => Check::good("authkey", found),
        Place::Network => Check::new("authkey", Mood::Doubtful, found).hint(
            "make one with `pmq authkey new FILE`, and name it on every host (PMQ_AUTHKEY_FILE)",
        ),
    }
}

/// Whether others can read along.
fn tls(place: Place, url: &str) -> Check {
    if url.starts_with("rediss") {
        return Check::good("tls", "encrypted, and the server's certificate is verified");
    }
    match place {
        Place::Socket | Place::Machine => {
            Check::good("tls", "not encrypted, and never leaves this machine")
        }
        Place::Network => Check::new(
            "tls",
            Mood::Doubtful,
            "not encrypted: whoever is on the way can read and change everything",
        )
        .hint("turn TLS on (tls-port in redis.conf), and begin the URL with rediss://"),
    }
}

/// Whether anybody is let in. `protected` is the server's setting protected-mode.
fn login(place: Place, access: &Access, protected: Option<&str>) -> Check {
    let user = &access.user;
    let mode = match protected {
        Some("no") => "; protected-mode is off",
        _ => "",
    };
    match (access.lets_anybody_in, place) {
        (None, _) => Check::good(
            "login",
            format!("as user {user}, who may not ask about others (ACL GETUSER)"),
        ),
        (Some(false), _) => Check::good(
            "login",
            format!("as user {user}; nobody comes in without a password"),
        ),
        (Some(true), Place::Socket) => Check::good(
            "login",
            format!(
                "as user {user}, without a password; the permissions of the socket say who can come in"
            ),
        ),
        (Some(true), place) => {
            let (who, mood) = match place {
                Place::Network => ("whoever reaches it", Mood::Bad),
                _ => ("whoever is on this machine", Mood::Doubtful),
            };
            Check::new("login", mood, format!("{who} comes in without a password{mode}"))
                .hint("set one with requirepass, or turn the user off with `ACL SETUSER default off`, once there are others")
        }
    }
}

/// Whether this user may do more than pmq needs.
fn width(place: Place, access: &Access) -> Option<Check> {
    let wide = access.too_wide.as_ref()?;
    if wide.is_empty() || place == Place::Socket {
        return None;
    }
    let found = format!(
        "user {} may also run {}, which pmq never needs",
        access.user,
        wide.join(", ")
    );
    Some(Check::new("width", Mood::Doubtful, found).hint(
        "give workers and producers a user of their own: `pmq acl` prints its rules for each role",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_as_wide_as_its_widest_address() {
        for (address, place) in [
            ("/run/redis/s", Place::Socket),
            ("127.0.0.1:6379", Place::Machine),
            ("localhost:6379", Place::Machine),
            ("::1:6379", Place::Machine),
            ("[::1]:1,127.0.0.1:2", Place::Machine),
            ("127.0.0.1:1,redis.example:2", Place::Network),
            ("10.0.0.1:1", Place::Network),
            ("m of 127.0.0.1:1,[::1]:2", Place::Machine),
            ("m of 10.0.0.1:1", Place::Network),
        ] {
            assert_eq!(Place::of(address), place, "{address}");
        }
    }

    #[test]
    fn what_is_open_is_worse_the_more_can_reach_it() {
        let open = Access {
            user: "default".into(),
            lets_anybody_in: Some(true),
            too_wide: Some(vec!["EVAL".into(), "FLUSHALL".into()]),
        };
        let mood = |place| login(place, &open, Some("no")).mood;
        assert_eq!(mood(Place::Socket), Mood::Good);
        assert_eq!(mood(Place::Machine), Mood::Doubtful);
        assert_eq!(mood(Place::Network), Mood::Bad);
        let found = login(Place::Network, &open, Some("no")).found;
        assert!(found.contains("protected-mode is off"), "{found}");
        assert_eq!(tls(Place::Network, "redis://h").mood, Mood::Doubtful);
        assert_eq!(tls(Place::Network, "rediss+cluster://h").mood, Mood::Good);
        assert_eq!(no_authkey(Place::Machine).mood, Mood::Good);
        assert_eq!(no_authkey(Place::Network).mood, Mood::Doubtful);
        assert!(width(Place::Socket, &open).is_none());
        let found = width(Place::Machine, &open).unwrap().found;
        assert!(found.contains("EVAL, FLUSHALL"), "{found}");
    }
}
