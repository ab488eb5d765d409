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
            .env_remove("PMQ_SENTINEL_PASSWORD")
            .env_remove("PMQ_AUTHKEY");
    }
    command.env("PMQ_NAMESPACE", config.namespace.as_str());
    if let Some(url) = &config.url {
        command.env("PMQ_REDIS_URL", url);
    }
    if let Some(username) = &config.username {
        command.env("PMQ_REDIS_USERNAME", username);
    }
    if let Some(username) = &config.sentinel_username {
        command.env("PMQ_SENTINEL_USERNAME", username);
    }
    let tls = &config.tls;
    let files = [
        ("PMQ_TLS_CA", &tls.ca),
        ("PMQ_TLS_CERT", &tls.cert),
        ("PMQ_TLS_KEY", &tls.key),
    ];
    for (name, file) in files {
        command.envs(file.as_ref().map(|file| (name, file)));
    }
    if config.insecure {
        command.env("PMQ_INSECURE", "1");
    }
    pass_on(&mut command, "PMQ_REDIS", &config.password);
    pass_on(&mut command, "PMQ_SENTINEL", &config.sentinel_password);
    command.env("PMQ_DURABILITY", config.durability.as_str());
    // One that is in this process's own environment is in the child's as well.
    if let AuthkeySource::File(path) = &config.authkey {
        command.env("PMQ_AUTHKEY_FILE", path);
    }
    if config.encrypt {
        command.env("PMQ_ENCRYPT", "1");
    }
    Ok(command)
}

fn pass_on(command: &mut Command, prefix: &str, password: &Password) {
    match password {
        Password::None => {}
        Password::Plain(password) => {
            command.env(format!("{prefix}_PASSWORD"), password);
        }
        Password::File(path) => {
            command.env(format!("{prefix}_PASSWORD_FILE"), path);
        }
    }
}
