//! The URL of a broker. It may hold a password, so it is not shown, and no part of it is quoted where it is wrong.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use pmq_broker::secret;
use serde::Deserialize;

/// A URL as the user wrote it. `Debug` shows its scheme alone.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Url(String);

impl Url {
    /// All of it, with the password.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is a password in it.
    #[must_use]
    pub fn has_password(&self) -> bool {
        secret::without_password(&self.0).is_some()
    }
}

impl FromStr for Url {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A mistyped one may have its password anywhere.
        let is_plain = |scheme: &&str| scheme.bytes().all(|b| b.is_ascii_lowercase() || b == b'+');
        let scheme = self.0.split_once("://").map(|(scheme, _)| scheme);
        match scheme.filter(is_plain) {
            Some(scheme) => write!(f, "{scheme}://.."),
            None => f.write_str("unusable"),
        }
    }
}

/// Which part can't be used; `None` where it is none of the known ones.
pub(crate) fn problem(url: &str) -> Option<&'static str> {
    let (scheme, rest) = url.split_once("://")?;
    if !matches!(scheme, "redis" | "rediss") {
        return None;
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or_default();
    // The colons of an IPv6 address stand in brackets.
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (host, None),
    };
    if host.is_empty() {
        Some("it names no host")
    } else if port.is_some_and(|port| port.parse().map_or(true, |port: u16| port == 0)) {
        Some("its port is no number from 1 to 65535")
    } else if !database.is_empty() && database.parse::<u32>().is_err() {
        Some("its database, behind the last /, is no number")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_password() {
        let url: Url = "redis://u:hunter2@h".parse().unwrap();
        assert_eq!(format!("{url:?}"), "redis://..");
        assert!(url.has_password() && url.reveal().contains("hunter2"));
        let slip: Url = "hunter2".parse().unwrap();
        assert_eq!(format!("{slip:?}"), "unusable");
    }

    #[test]
    fn the_part_is_named() {
        for url in ["redis://", "redis://:6379", "redis://u:p@"] {
            assert_eq!(problem(url), Some("it names no host"), "{url}");
        }
        for url in ["redis://h:port", "rediss://h:99999/0", "redis://[::1]:0"] {
            assert!(
                problem(url).is_some_and(|why| why.contains("port")),
                "{url}"
            );
        }
        assert!(problem("redis://h/x").is_some_and(|why| why.contains("database")));
        for url in [
            "redis://h",
            "redis://u:p@h:1/2",
            "redis://[::1]",
            "redis+unix:///x",
        ] {
            assert_eq!(problem(url), None, "{url}");
        }
    }
}
