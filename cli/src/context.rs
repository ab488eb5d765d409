//! What every command works with: the settings that hold, the broker, the output.

use std::env;

use pmq_broker::{AuthkeySource, Broker, Config, Error, Password};

use crate::args::Globals;
use crate::config_file::{ConfigFile, RedisTable};
use crate::exit::Exit;
use crate::failure::{self, Failure};
use crate::link_url;
use crate::output::Output;

/// The settings of this call, resolved once.
#[derive(Debug)]
pub struct Context {
    /// Which broker, and how to log in.
    pub config: Config,
    /// What the configuration file says; empty where there is none.
    pub file: ConfigFile,
    /// Where results go.
    pub output: Output,
}

impl Context {
    /// Resolves flags, environment and configuration file, in this order of precedence.
    pub fn new(globals: &Globals) -> anyhow::Result<Self> {
        let file = ConfigFile::load(globals.config.as_deref())?;
        let mut config = Config::from_env()?;
        fill(&mut config, &file);
        if let Some(url) = &globals.redis {
            config.url = Some(url.clone());
        }
        if let Some(path) = &globals.authkey_file {
            config.authkey = AuthkeySource::File(path.clone());
        }
        config.encrypt |= globals.encrypt;
        let env_has_namespace = env::var_os("PMQ_NAMESPACE").is_some_and(|name| !name.is_empty());
        let from_file = file.namespace.as_ref().filter(|_| !env_has_namespace);
        if let Some(namespace) = globals.namespace.as_ref().or(from_file) {
            config.namespace = namespace.clone();
        }
        let env_has_durability = env::var_os("PMQ_DURABILITY").is_some_and(|mode| !mode.is_empty());
        let from_file = file.durability.filter(|_| !env_has_durability);
        if let Some(durability) = globals.durability.or(from_file) {
            config.durability = durability;
        }
        Ok(Self {
            config,
            file,
            output: Output::new(globals.json, globals.color),
        })
    }

    /// Connects to the broker, and starts the local one where none is named.
    pub async fn connect(&self) -> anyhow::Result<Broker> {
        let broker = Broker::connect(&self.config).await;
        broker.map_err(|error| self.explain(error))
    }

    /// Adds what the URL tells about a connection that failed.
    pub(crate) fn explain(&self, error: Error) -> anyhow::Error {
        let url = self.config.url.as_deref().unwrap_or_default();
        match (&error, link_url::problem(url)) {
            (Error::BadUrl(_), Some(problem)) => {
                Failure::usage(format!("unusable Redis URL: {problem}"))
                    .with_hint("write redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], with %40 for @ and %2F for / in a password")
                    .into()
            }
            (Error::Unreachable { .. }, _) if url.starts_with("rediss://") => {
                let text = failure::sentence(&error.into());
                Failure::new(Exit::UNAVAILABLE, text)
                    .with_hint("does the server speak TLS on this port? To one that does not, the URL begins with redis://")
                    .into()
            }
            _ => error.into(),
        }
    }
}

/// Takes from the file what the environment leaves open.
fn fill(config: &mut Config, file: &ConfigFile) {
    fill_redis(config, &file.redis);
    if let (AuthkeySource::None, Some(path)) = (&config.authkey, &file.authkey_file) {
        config.authkey = AuthkeySource::File(path.clone());
    }
    config.encrypt |= file.encrypt;
}

fn fill_redis(config: &mut Config, file: &RedisTable) {
    if config.url.is_none() {
        config.url.clone_from(&file.url);
    }
    if config.username.is_none() {
        config.username.clone_from(&file.username);
    }
    if let (Password::None, Some(path)) = (&config.password, &file.password_file) {
        config.password = Password::File(path.clone());
    }
    if config.sentinel_username.is_none() {
        config.sentinel_username.clone_from(&file.sentinel_username);
    }
    if let (Password::None, Some(path)) = (&config.sentinel_password, &file.sentinel_password_file)
    {
        config.sentinel_password = Password::File(path.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_goes_before_the_file() {
        let file = RedisTable {
            url: Some("redis://file".into()),
            username: Some("file".into()),
            password_file: Some("/file".into()),
            sentinel_password_file: Some("/sentinel".into()),
            ..RedisTable::default()
        };
        let mut config = Config {
            username: Some("env".into()),
            password: Password::Plain("env".into()),
            ..Config::default()
        };
        fill_redis(&mut config, &file);
        assert_eq!(config.url.as_deref(), Some("redis://file"));
        assert_eq!(config.username.as_deref(), Some("env"));
        assert!(matches!(config.password, Password::Plain(_)));
        assert!(matches!(config.sentinel_password, Password::File(_)));
    }
}
