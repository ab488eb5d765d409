//! The command `pmq`.
//!
//! [`args`] reads the command line, [`context`] resolves the settings, [`commands`] has one file a subcommand,
//! [`failure`] and [`exit`] say how it ended.

pub mod args;
pub mod commands;
mod completion_record;
pub mod config_file;
mod confirm;
pub mod context;
pub mod duration;
pub mod exit;
pub mod failure;
mod fleet;
mod hold;
mod ignored;
pub mod link_url;
mod locate;
mod log;
pub mod map;
mod mistake;
mod myself;
pub mod output;
mod plural;
mod process;
mod shards;
pub mod task_template;
pub mod when;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use clap::error::ErrorKind;

use args::Cli;
use context::Context;
use exit::Exit;
use output::Colors;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let exit = match Cli::try_parse() {
        Ok(cli) => run(cli).unwrap_or_else(|error| failure::report(&error)),
        Err(error) => refuse(&error),
    };
    exit.into()
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    log::start(cli.globals.verbose, cli.globals.color);
    let context = Context::new(&cli.globals)?;
    let runtime = cli
        .command
        .runtime()
        .context("could not start the runtime")?;
    runtime.block_on(cli.command.run(&context))
}

/// Prints help where it was asked for, else what is wrong with the command line.
fn refuse(error: &clap::Error) -> Exit {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        // Whoever closed the pipe does not want to read on.
        let _ = error.print();
        return Exit::OK;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return Exit::USAGE;
    }
    let message = error.render();
    let hint = mistake::hint(error).map_or(String::new(), |hint| format!("\nhint: {hint}\n"));
    let message = if Colors::Auto.suit(io::stderr().is_terminal()) {
        format!("pmq: {}{hint}", message.ansi())
    } else {
        format!("pmq: {message}{hint}")
    };
    let _ = io::stderr().write_all(message.as_bytes());
    Exit::USAGE
}
