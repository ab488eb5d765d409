//! Which broker, and how to log in.

use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::ids::Name;

/// Where the broker is. Without a URL it is the local broker. `Debug` shows no secret.
#[derive(Clone)]
pub struct Config {
    /// `redis://`, `rediss://` or `redis+unix://`; `None` for the local broker.
    pub url: Option<String>,
    /// The user, where the URL names none.
    pub username: Option<String>,
    /// Where the password comes from, where the URL has none.
    pub password: Password,
    /// How TLS is spoken, with `rediss://`.
    pub tls: Tls,
    /// Whether a broker on a network is used without a password, and one on a public network without TLS; false unless set.
    pub insecure: bool,
    /// The prefix of every key; `pmq` unless set.
    pub namespace: Name,
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
            tls: Tls::default(),
            insecure: false,
            namespace: Name::new("pmq").expect("it keeps to the grammar"),
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
    /// `PMQ_REDIS_PASSWORD`, `PMQ_TLS_CA`, `PMQ_TLS_CERT`, `PMQ_TLS_KEY`, `PMQ_INSECURE`, `PMQ_NAMESPACE`.
    pub fn from_env() -> Result<Self> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut config = Self {
            url: variable("PMQ_REDIS_URL"),
            username: variable("PMQ_REDIS_USERNAME"),
            tls: Tls {
                ca: variable("PMQ_TLS_CA").map(Into::into),
                cert: variable("PMQ_TLS_CERT").map(Into::into),
                key: variable("PMQ_TLS_KEY").map(Into::into),
            },
            insecure: variable("PMQ_INSECURE").is_some_and(|word| word != "0"),
            ..Self::default()
        };
        if let Some(file) = variable("PMQ_REDIS_PASSWORD_FILE") {
            config.password = Password::File(file.into());
        } else if let Some(password) = variable("PMQ_REDIS_PASSWORD") {
            config.password = Password::Plain(password);
        }
        if let Some(namespace) = variable("PMQ_NAMESPACE") {
            config.namespace = Name::new(namespace)?;
        }
        Ok(config)
    }

    /// The password. Its file is read once, when the process connects.
    pub(crate) fn password(&self) -> Result<Option<String>> {
        match &self.password {
            Password::None => Ok(None),
            Password::Plain(password) => Ok(Some(password.clone())),
            Password::File(path) => {
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
        let place = self
            .url
            .as_deref()
            .map_or("local", |url| url.split("://").next().unwrap_or_default());
        f.debug_struct("Config")
            .field("url", &place)
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
}
