//! `pmq local`: the private Redis that pmq starts where no URL is given.

use std::path::Path;

use clap::{Args, Subcommand};
use pmq_broker::connection::local::{LocalBroker, LocalStatus};
use serde_json::json;

use crate::confirm::confirm;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::Output;

/// Manage the local broker.
#[derive(Subcommand, Debug)]
pub enum Local {
    /// Show where it is, whether it runs, who uses it, and how large it is
    #[command(after_help = "Example:\n  pmq local status")]
    Status,
    /// Stop its server; its data stays
    #[command(
        after_help = "It stops by itself with its last user; this is for one whose users were killed.\n\nExample:\n  pmq local stop"
    )]
    Stop(Stop),
    /// Stop its server and delete its data: every task, result and lock in it
    #[command(after_help = "Example:\n  pmq local wipe --yes")]
    Wipe(Wipe),
}

/// Stop the server.
#[derive(Args, Debug)]
pub struct Stop {
    /// Also while processes use it
    #[arg(long)]
    force: bool,
}

/// Stop the server and delete its data.
#[derive(Args, Debug)]
pub struct Wipe {
    /// Also while processes use it
    #[arg(long)]
    force: bool,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Local {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let directory = match &context.config.local_directory {
            Some(directory) => directory.clone(),
            None => LocalBroker::directory(None)?,
        };
        match self {
            Self::Status => show(&LocalBroker::status(&directory)?, context.output)?,
            Self::Stop(Stop { force }) => {
                let stopped = LocalBroker::stop(&directory, force)?;
                let text = if stopped {
                    "stopped the server"
                } else {
                    "no server was running"
                };
                done(text, &json!({"stopped": stopped}), context.output)?;
            }
            Self::Wipe(command) => wipe(&command, &directory, context.output).await?,
        }
        Ok(Exit::OK)
    }
}

fn done(text: &str, record: &serde_json::Value, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        output.json(record)
    } else {
        Ok(output.line(text)?)
    }
}

async fn wipe(command: &Wipe, directory: &Path, output: Output) -> anyhow::Result<()> {
    let question = format!(
        "delete every task, result and lock in {}",
        directory.display()
    );
    if !confirm(&question, command.yes).await? {
        return Ok(());
    }
    LocalBroker::wipe(directory, command.force)?;
    let text = format!("wiped {}", directory.display());
    done(
        &text,
        &json!({"wiped": directory.to_string_lossy()}),
        output,
    )
}

fn show(status: &LocalStatus, output: Output) -> anyhow::Result<()> {
    let version = status.version.as_ref().map(ToString::to_string);
    if output.is_json() {
        return output.json(&json!({
            "directory": status.directory.to_string_lossy(), "running": status.is_running(), "pid": status.pid,
            "version": version, "in_use": status.in_use, "users": status.users, "data_bytes": status.data_bytes,
        }));
    }
    let server = match (status.pid, &version) {
        (Some(pid), Some(version)) => format!("running as process {pid}, {version}"),
        (Some(pid), None) => format!("running as process {pid}"),
        (None, Some(version)) => format!("not running; {version} wrote the data"),
        (None, None) => "not running; it was never used".to_owned(),
    };
    let users = status
        .users
        .iter()
        .map(u32::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    let users = match (users.is_empty(), status.in_use) {
        (false, _) => format!("process {users}"),
        (true, true) => "some process".to_owned(),
        (true, false) => "none".to_owned(),
    };
    output.line(&format!("directory  {}", status.directory.display()))?;
    output.line(&format!("server     {server}"))?;
    output.line(&format!("users      {users}"))?;
    output.line(&format!("data       {} bytes", status.data_bytes))?;
    Ok(())
}
