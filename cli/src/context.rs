//! What every command works with: the settings that hold, the broker, the output.

use std::env;

use pmq_broker::{AuthkeySource, Broker, Config, Error, Password, Tls};

use crate::args::{Globals, TlsFlags};
use crate::config_file::{ConfigFile, RedisTable};
use crate::failure::Failure;
use crate::link_url::{self, Url};
use crate::output::{Output, note};

/// The settings of this call, resolved once.
#[derive(Debug)]
pub struct Context {
    /// Which broker, and how to log in.
    pub config: Config,
    /// What the configuration file says; empty where there is none.
    pub file: ConfigFile,
    /// Where results go.
    pub output: Output,
    /// Whether a password stands among the arguments, which are for all users of a machine to read.
    shows_password: bool,
}

impl Context {
    /// Resolves flags, environment and configuration file, in this order of precedence.
    pub fn new(globals: &Globals) -> anyhow::Result<Self> {
        let file = ConfigFile::load(globals.config.as_deref())?;
        let mut config = Config::from_env()?;
        fill(&mut config, &file);
        if let Some(url) = &globals.redis {
            config.url = Some(url.reveal().to_owned());
        }
        config.insecure |= globals.insecure;
        let TlsFlags {
            tls_ca,
            tls_cert,
            tls_key,
        } = globals.tls.clone();
        config.tls = Tls {
            ca: tls_ca.or(config.tls.ca),
            cert: tls_cert.or(config.tls.cert),
            key: tls_key.or(config.tls.key),
        };
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
            shows_password: globals.redis.as_ref().is_some_and(Url::has_password),
        })
    }

    /// Connects to the broker, and starts the local one where none is named.
    pub async fn connect(&self) -> anyhow::Result<Broker> {
        let broker = Broker::connect(&self.config).await;
        let broker = broker.map_err(|error| self.explain(error))?;
        self.warn_of_password();
        Ok(broker)
    }

    /// Tells the user once, where all else is well, of a password that others can see.
    pub(crate) fn warn_of_password(&self) {
        if self.shows_password {
            note(
                "warning: the password in --redis is for all on this machine to see; put the URL into PMQ_REDIS_URL, or the password into a file that PMQ_REDIS_PASSWORD_FILE names",
            );
        }
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
        config.url = file.url.as_ref().map(|url| url.reveal().to_owned());
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
    let tls = [
        (&mut config.tls.ca, &file.tls_ca),
        (&mut config.tls.cert, &file.tls_cert),
        (&mut config.tls.key, &file.tls_key),
    ];
    for (setting, from_file) in tls {
        if setting.is_none() {
            setting.clone_from(from_file);
        }
    }
    config.insecure |= file.insecure;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_goes_before_the_file() {
        let file = RedisTable {
            url: Some("redis://file".parse().unwrap()),
            username: Some("file".into()),
            password_file: Some("/file".into()),
            sentinel_password_file: Some("/sentinel".into()),
            tls_ca: Some("/file".into()),
            tls_cert: Some("/file".into()),
            ..RedisTable::default()
        };
        let mut config = Config {
            username: Some("env".into()),
            password: Password::Plain("env".into()),
            tls: Tls {
                ca: Some("/env".into()),
                ..Tls::default()
            },
            ..Config::default()
        };
        fill_redis(&mut config, &file);
        assert_eq!(config.url.as_deref(), Some("redis://file"));
        assert_eq!(config.username.as_deref(), Some("env"));
        assert!(matches!(config.password, Password::Plain(_)));
        assert!(matches!(config.sentinel_password, Password::File(_)));
        assert_eq!(config.tls.ca, Some("/env".into()));
        assert_eq!(config.tls.cert, Some("/file".into()));
    }
}
