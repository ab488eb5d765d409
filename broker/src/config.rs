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

impl Default for Config {
    fn default() -> Self {
        Self {
            url: None,
            username: None,
            password: Password::None,
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
    /// `PMQ_REDIS_PASSWORD`, `PMQ_NAMESPACE`.
    pub fn from_env() -> Result<Self> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut config = Self {
            url: variable("PMQ_REDIS_URL"),
            username: variable("PMQ_REDIS_USERNAME"),
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
