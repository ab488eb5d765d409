//! Which broker, and how to log in.

use std::fmt;
use std::path::PathBuf;

use crate::authkey::AuthkeySource;
use crate::durability::{Durability, UnknownDurability};
use crate::error::{Error, Result};
use crate::ids::Name;

/// Where the broker is. Without a URL it is the local broker. `Debug` shows no secret.
#[derive(Clone)]
pub struct Config {
    /// `redis://`, `rediss://` or `redis+unix://`; `redis+cluster://h1:7000,h2:7000` for a Redis Cluster, by way of any of
    /// its nodes; `redis+sentinel://h1:26379,h2:26379/NAME[/DATABASE]` for whichever server the sentinels call the primary
    /// of this name; both with `rediss` for TLS. `None` for the local broker.
    pub url: Option<String>,
    /// The user, where the URL names none.
    pub username: Option<String>,
    /// Where the password comes from, where the URL has none.
    pub password: Password,
    /// The user at the sentinels, which have users of their own; none unless set.
    pub sentinel_username: Option<String>,
    /// The password at the sentinels; none unless set.
    pub sentinel_password: Password,
    /// What signs tasks and completions, and lets only signed ones run; nothing unless set. On the local broker it is not
    /// used, as nobody but its user can write there. In Python's multiprocessing this is `authkey`.
    pub authkey: AuthkeySource,
    /// Whether bodies and results are encrypted as well, with the authkey; false unless set.
    pub encrypt: bool,
    /// How TLS is spoken, with `rediss://`.
    pub tls: Tls,
    /// Whether a broker on a network is used without a password, and one on a public network without TLS; false unless set.
    pub insecure: bool,
    /// The prefix of every key; `pmq` unless set.
    pub namespace: Name,
    /// What an acknowledgement promises; `Local` unless set.
    pub durability: Durability,
    /// The local broker's directory; the user's own unless set.
    pub local_directory: Option<PathBuf>,
}

/// Where a password comes from.
#[derive(Clone, Default)]
pub enum Password {
    /// There is none.
    #[default]
    None,
    /// This one.
    Plain(String),
    /// The first line of a file.
    File(PathBuf),
}

/// Whom TLS trusts, and how this process proves who it is. All files are PEM; they are read once, when the process connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The certificates of the authorities that may sign the server's; unless set, those that this system trusts, and where
    /// it has none, those that Mozilla does.
    pub ca: Option<PathBuf>,
    /// The certificate of this client, and those between it and its authority; none unless set.
    pub cert: Option<PathBuf>,
    /// The private key of `cert`, not encrypted.
    pub key: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: None,
            username: None,
            password: Password::None,
            sentinel_username: None,
            sentinel_password: Password::None,
            authkey: AuthkeySource::None,
            encrypt: false,
            tls: Tls::default(),
            insecure: false,
            namespace: Name::new("pmq").expect("it keeps to the grammar"),
            durability: Durability::Local,
            local_directory: None,
        }
    }
}

impl Config {
    /// A configuration for this URL.
    #[must_use]
    pub fn url(url: impl Into<String>) -> Self {
        Self {
            url: Some(url.into()),
            ..Self::default()
        }
    }

    /// What the environment says: `PMQ_REDIS_URL`, `PMQ_REDIS_USERNAME`, `PMQ_REDIS_PASSWORD_FILE`,
    /// `PMQ_REDIS_PASSWORD`, the last three with `PMQ_SENTINEL` for what sentinels ask for, `PMQ_AUTHKEY_FILE`, `PMQ_AUTHKEY`,
    /// `PMQ_ENCRYPT`, `PMQ_TLS_CA`, `PMQ_TLS_CERT`, `PMQ_TLS_KEY`, `PMQ_INSECURE`, `PMQ_NAMESPACE`, `PMQ_DURABILITY`.
    pub fn from_env() -> Result<Self> {
        let mut config = Self {
            url: variable("PMQ_REDIS_URL"),
            username: variable("PMQ_REDIS_USERNAME"),
            password: Password::from_env("PMQ_REDIS"),
            sentinel_username: variable("PMQ_SENTINEL_USERNAME"),
            sentinel_password: Password::from_env("PMQ_SENTINEL"),
            tls: Tls {
                ca: variable("PMQ_TLS_CA").map(Into::into),
                cert: variable("PMQ_TLS_CERT").map(Into::into),
                key: variable("PMQ_TLS_KEY").map(Into::into),
            },
            insecure: variable("PMQ_INSECURE").is_some_and(|word| word != "0"),
            ..Self::default()
        };
        if let Some(file) = variable("PMQ_AUTHKEY_FILE") {
            config.authkey = AuthkeySource::File(file.into());
        } else if let Some(text) = variable("PMQ_AUTHKEY") {
            config.authkey = AuthkeySource::Text(text);
        }
        config.encrypt = variable("PMQ_ENCRYPT").is_some_and(|word| word != "0");
        if let Some(namespace) = variable("PMQ_NAMESPACE") {
            config.namespace = Name::new(namespace)?;
        }
        if let Some(durability) = variable("PMQ_DURABILITY") {
            let parsed = durability.parse();
            let named = |error| Error::BadOption(format!("PMQ_DURABILITY: {error}"));
            config.durability = parsed.map_err(|error: UnknownDurability| named(error))?;
        }
        Ok(config)
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Password {
    fn from_env(prefix: &str) -> Self {
        if let Some(file) = variable(&format!("{prefix}_PASSWORD_FILE")) {
            Self::File(file.into())
        } else {
            variable(&format!("{prefix}_PASSWORD")).map_or(Self::None, Self::Plain)
        }
    }

    /// The password. Its file is read once, when the process connects.
    pub(crate) fn read(&self) -> Result<Option<String>> {
        match self {
            Self::None => Ok(None),
            Self::Plain(password) => Ok(Some(password.clone())),
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| {
                    Error::BadOption(format!(
                        "could not read the password file {}: {e}",
                        path.display()
                    ))
                })?;
                Ok(text.lines().next().map(str::to_owned))
            }
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A text without a scheme may be all password.
        let scheme = |url: &'_ str| url.split_once("://").map(|(scheme, _)| scheme.to_owned());
        let place = self.url.as_deref().map_or(Some("local".into()), scheme);
        let place =
            place.filter(|place| place.bytes().all(|b| b.is_ascii_lowercase() || b == b'+'));
        f.debug_struct("Config")
            .field("url", &place.as_deref().unwrap_or("unusable"))
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_password() {
        let config = Config {
            password: Password::Plain("hunter2".into()),
            ..Config::url("redis://u:hunter1@h/0")
        };
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn debug_shows_no_password_of_a_mistyped_url() {
        for url in ["redis:/u:hunter2@h", ":hunter2@h", "u:hunter2@h://h"] {
            let shown = format!("{:?}", Config::url(url));
            assert!(shown.contains("unusable"), "{shown}");
            assert!(!shown.contains("hunter"), "{shown}");
        }
    }
}
