//! `pmq generate`: shell completions and man pages, made from the command line's own description.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory, Subcommand};
use clap_complete::Shell;

use crate::args::Cli;
use crate::context::Context;
use crate::exit::Exit;

/// Generate shell completions and man pages.
#[derive(Subcommand, Debug)]
pub enum Generate {
    /// Print completions for a shell
    #[command(
        after_help = "Example:\n  pmq generate completion bash > ~/.local/share/bash-completion/completions/pmq"
    )]
    Completion(Completion),
    /// Print the man page, or write the pages of all commands into a directory
    #[command(after_help = "Example:\n  pmq generate man ~/.local/share/man/man1")]
    Man(Man),
}

/// Print completions for a shell.
#[derive(Args, Debug)]
pub struct Completion {
    /// The shell
    shell: Shell,
}

/// Print the man page, or write all of them.
#[derive(Args, Debug)]
pub struct Man {
    /// Where the pages of all commands go [default: only pmq(1), to standard output]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Generate {
    /// Runs it.
    pub fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let mut command = Cli::command();
        let mut text = Vec::new();
        match self {
            Self::Completion(Completion { shell }) => {
                clap_complete::generate(shell, &mut command, "pmq", &mut text);
            }
            Self::Man(Man { directory: None }) => {
                clap_mangen::Man::new(command).render(&mut text)?;
            }
            Self::Man(Man {
                directory: Some(directory),
            }) => {
                let failed = || format!("could not write man pages to {}", directory.display());
                std::fs::create_dir_all(&directory).with_context(failed)?;
                clap_mangen::generate_to(command, &directory).with_context(failed)?;
            }
        }
        context.output.raw(&text)?;
        Ok(Exit::OK)
    }
}
