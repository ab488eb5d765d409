//! What the flags of `pmq map` say about the jobs: which, and which of them an earlier run has done.
use std::env;
use std::ffi::OsString;
use std::io::{self, BufReader, IsTerminal};
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use super::argv::{self, CommandLine, Source};
use super::feed::{Earlier, Step, from_failures, from_input};
use super::input::{Jobs, Reading};
use super::joblog::Joblog;
use super::template::{Template, posix_shell};
use crate::failure::Failure;
use crate::output;

/// Flags about what the jobs are.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Input")]
pub struct InputFlags {
    /// Read the arguments from FILE instead of stdin; several files are combined, as after `::::`
    #[arg(short = 'a', long = "arg-file", value_name = "FILE")]
    pub arg_files: Vec<PathBuf>,

    /// Items end at a NUL byte instead of a newline, as `find -print0` writes them
    #[arg(short = '0', long)]
    pub null: bool,

    /// Make no job of an empty line
    #[arg(short = 'r', long)]
    pub no_run_if_empty: bool,

    /// Let $SHELL (or /bin/sh) run the command as a line; the arguments are quoted for it
    #[arg(long)]
    pub shell: bool,

    /// CMD ARG...; {} {.} {/} {//} {/.} {#} stand for the argument; `::: a b` names arguments
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Flags about the joblog.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Joblog")]
pub struct LogFlags {
    /// Write a line for each job that ended to FILE, in the format of GNU parallel
    #[arg(long, value_name = "FILE")]
    pub joblog: Option<PathBuf>,

    /// Skip the jobs that ended, by the joblog; the others run and are added to it
    #[arg(long, requires = "joblog")]
    pub resume: bool,

    /// As --resume, but jobs that failed run again
    #[arg(long, requires = "joblog", conflicts_with = "resume")]
    pub resume_failed: bool,

    /// Run the failed jobs of the joblog again, with the commands that stand there, and no others
    #[arg(long, requires = "joblog", conflicts_with_all = ["resume", "resume_failed"])]
    pub retry_failed: bool,
}

/// The jobs to run.
pub struct Plan {
    /// The jobs with their commands.
    pub steps: Box<dyn Iterator<Item = anyhow::Result<Step>> + Send>,
    /// Where their ends are written.
    pub joblog: Option<Joblog>,
}

impl Plan {
    /// Opens the input and the joblog.
    pub fn open(input: InputFlags, log: LogFlags) -> anyhow::Result<Self> {
        if log.retry_failed {
            return log.failures();
        }
        let (jobs, template) = input.open()?;
        let (joblog, earlier) = log.open()?;
        Ok(Self {
            steps: Box::new(from_input(jobs, template, earlier)),
            joblog,
        })
    }
}

impl InputFlags {
    fn open(self) -> anyhow::Result<(Jobs, Template)> {
        let CommandLine {
            command,
            mut sources,
        } = argv::split(self.command).map_err(usage)?;
        sources.splice(0..0, self.arg_files.into_iter().map(Source::file));
        let template = if self.shell {
            Template::shell(posix_shell(env::var_os("SHELL")), &command)
        } else {
            Template::argv(&command)
        };
        let template = template.map_err(usage)?;
        template
            .check_sources(sources.len().max(1))
            .map_err(usage)?;
        if sources.is_empty() && io::stdin().is_terminal() {
            output::note("reading arguments from the terminal, one a line; Ctrl-D ends them");
        }
        let reading = Reading {
            null: self.null,
            skip_empty: self.no_run_if_empty,
        };
        let jobs = Jobs::open(sources, reading, BufReader::new(io::stdin()))?;
        Ok((jobs, template))
    }
}

impl LogFlags {
    fn open(self) -> anyhow::Result<(Option<Joblog>, Option<Earlier>)> {
        let Some(path) = self.joblog else {
            return Ok((None, None));
        };
        if !(self.resume || self.resume_failed) {
            return Ok((Some(Joblog::create(&path)?), None));
        }
        let (joblog, past) = Joblog::resume(&path)?;
        let failed_again = self.resume_failed;
        Ok((Some(joblog), Some(Earlier { past, failed_again })))
    }

    fn failures(self) -> anyhow::Result<Plan> {
        let Some(path) = self.joblog else {
            bail!(Failure::usage("--retry-failed needs --joblog FILE"));
        };
        let (joblog, past) = Joblog::resume(&path)?;
        Ok(Plan {
            steps: Box::new(from_failures(&past)?.into_iter()),
            joblog: Some(joblog),
        })
    }
}

fn usage(error: impl std::error::Error) -> Failure {
    Failure::usage(error.to_string())
}
