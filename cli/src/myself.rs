//! This very program as a child process, with the same broker.

use std::env;
use std::process::Stdio;

use pmq_broker::{AuthkeySource, Config, Password};
use tokio::process::Command;

use crate::context::Context;

/// A child that runs `pmq` with these arguments on the broker of `context`.
///
/// Where the broker is goes through the environment: a URL may hold a password, and argv is for all to read.
pub(crate) fn command(context: &Context, arguments: &[&str]) -> anyhow::Result<Command> {
    on(&context.config, arguments)
}

/// The same on the broker of a configuration.
pub(crate) fn on(config: &Config, arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    if config.url.is_none() {
        // The local broker asks for no secret.
        command
            .env_remove("PMQ_REDIS_PASSWORD")
            .env_remove("PMQ_AUTHKEY");
    }
    command.env("PMQ_NAMESPACE", config.namespace.as_str());
    if let Some(url) = &config.url {
        command.env("PMQ_REDIS_URL", url);
    }
    if let Some(username) = &config.username {
        command.env("PMQ_REDIS_USERNAME", username);
    }
    match &config.password {
        Password::None => {}
        Password::Plain(password) => {
            command.env("PMQ_REDIS_PASSWORD", password);
        }
        Password::File(path) => {
            command.env("PMQ_REDIS_PASSWORD_FILE", path);
        }
    }
    // One that is in this process's own environment is in the child's as well.
    if let AuthkeySource::File(path) = &config.authkey {
        command.env("PMQ_AUTHKEY_FILE", path);
    }
    if config.encrypt {
        command.env("PMQ_ENCRYPT", "1");
    }
    Ok(command)
}
