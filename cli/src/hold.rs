//! Running a command while a permit is held: what `pmq lock` and `pmq sem` share.

mod signals;

use std::env;
use std::ffi::OsString;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use pmq_broker::{Error, Permit, Semaphore, TaskId};
use pmq_worker::child::{Attached, CommandError, Guard};
use tokio::signal::unix::SignalKind;

use crate::duration;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::note;
use signals::{Job, Signals, stand_still};

const LEASE: Duration = Duration::from_secs(15);

/// What is run, and how long it is waited for.
#[derive(Args, Debug)]
pub(crate) struct Hold {
    /// Do not wait: exit with 75 where it is not free
    #[arg(long, conflicts_with = "timeout")]
    nonblock: bool,

    /// How long to wait before exiting with 124 [default: for ever]
    #[arg(long, value_name = "D", value_parser = duration::parse)]
    timeout: Option<Duration>,

    /// How long others stay out when this host dies or is cut off, at least 1s [default: 15s]
    #[arg(long, value_name = "D", value_parser = duration::parse_lease)]
    lease: Option<Duration>,

    /// The command, behind `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What it is called, in messages and for the command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    pub(crate) kind: &'static str,
    /// The variable in which the command finds its name.
    pub(crate) variable: &'static str,
}

impl Hold {
    /// Waits for a permit, runs the command, gives the permit back.
    pub(crate) async fn run(&self, semaphore: Semaphore, words: Words) -> anyhow::Result<Exit> {
        let lease = self.lease.unwrap_or(LEASE);
        let semaphore = semaphore.with_lease(lease);
        let mut signals = Signals::to_pass_on().context("could not catch signals")?;
        self.warn_of_nesting(&semaphore, words);
        let permit = tokio::select! {
            permit = self.acquire(&semaphore) => permit?,
            signal = signals.next() => return Ok(Exit::of_signal(signal)),
        };
        let held = Held {
            what: format!("{} {}", words.kind, semaphore.name()),
            permit: permit.ok_or_else(|| self.not_free(&semaphore, words))?,
            grace: grace(lease),
        };
        let name = semaphore.name().as_str().into();
        held.run(&self.command, (words.variable, name), signals)
            .await
    }

    /// Who waits for what it runs under itself waits for ever. Not an error, as a semaphore may have more permits.
    fn warn_of_nesting(&self, semaphore: &Semaphore, words: Words) {
        let name = semaphore.name().as_str();
        if !self.nonblock && env::var(words.variable).is_ok_and(|held| held == name) {
            note(&format!(
                "note: this runs under {} {name} already, and may wait for itself",
                words.kind
            ));
        }
    }

    async fn acquire(&self, semaphore: &Semaphore) -> Result<Option<Permit>, Error> {
        match self.timeout {
            _ if self.nonblock => semaphore.acquire_nowait().await,
            Some(timeout) => semaphore.acquire_timeout(timeout).await,
            None => semaphore.acquire().await.map(Some),
        }
    }

    fn not_free(&self, semaphore: &Semaphore, words: Words) -> Failure {
        let (exit, since) = match self.timeout {
            Some(timeout) => (
                Exit::TIMED_OUT,
                format!(" after {}", duration::show(timeout)),
            ),
            None => (Exit::TRY_AGAIN, String::new()),
        };
        let what = format!("{} {}", words.kind, semaphore.name());
        Failure::new(exit, format!("{what} is not free{since}"))
    }
}

/// How long a command has to end when the lease is lost: less than the broker then waits before it gives the permit to
/// another.
fn grace(lease: Duration) -> Duration {
    Permit::margin(lease) * 3 / 4
}

/// A permit, and the words for it.
struct Held {
    what: String,
    permit: Permit,
    grace: Duration,
}

impl Held {
    async fn run(
        self,
        argv: &[OsString],
        name: (&'static str, OsString),
        mut signals: Signals<SignalKind>,
    ) -> anyhow::Result<Exit> {
        if self.permit.was_abandoned() {
            note(&format!(
                "the last holder of {} died while it held it",
                self.what
            ));
        }
        let guard = Guard::start(format!("hold-{}", TaskId::new()))?;
        let fence = self.permit.fence().to_string().into();
        let env = [name, ("PMQ_FENCE", fence)];
        let mut command = Attached::start(argv, &env, &guard).map_err(not_started)?;
        // Where the terminal does not stop both.
        let mut job = if command.hears_terminal() {
            Signals::none()
        } else {
            Signals::of_job_control()?
        };
        let exit = loop {
            tokio::select! {
                ended = command.wait() => break ended?,
                signal = signals.next() => command.pass_on(signal.as_raw_value()),
                change = job.next() => self.follow(change, &command),
                () = self.permit.lost() => {
                    command.end(self.grace).await?;
                    return Err(self.lost("the command was stopped").into());
                }
            }
        };
        // Nothing that it left running may outlive the permit.
        drop(command);
        self.give_back().await?;
        Ok(Exit::of_command(exit))
    }

    /// The command stops before this process does, and goes on after it.
    fn follow(&self, change: Job, command: &Attached) {
        match change {
            Job::Stop => {
                command.suspend();
                stand_still();
            }
            // What it works on may be another's by now, so it stands still until it is ended.
            Job::Continue if self.permit.is_lost() => {}
            Job::Continue => command.resume(),
        }
    }

    async fn give_back(self) -> Result<(), Failure> {
        let what = self.what.clone();
        match self.permit.release().await {
            Ok(()) => Ok(()),
            Err(Error::GrantLost { .. }) => Err(lost(&what, "the command had ended by itself")),
            Err(error) => {
                note(&format!("{what} will be free when its lease ends: {error}"));
                Ok(())
            }
        }
    }

    fn lost(&self, then: &str) -> Failure {
        lost(&self.what, then)
    }
}

fn lost(what: &str, then: &str) -> Failure {
    Failure::new(Exit::LOST, format!("{what} was lost while the command ran; {then}"))
        .with_hint("the broker was away for too long, this process stood still, or somebody released it by force")
}

fn not_started(error: CommandError) -> anyhow::Error {
    let Some(code) = error.exit_code() else {
        return error.into();
    };
    let text = match &error {
        CommandError::NotFound { program, .. } => {
            format!("no program \"{}\"", program.display())
        }
        CommandError::Denied { program, .. } => {
            format!("may not execute \"{}\"", program.display())
        }
        error => error.to_string(),
    };
    Failure::new(Exit::of_command_code(code), text).into()
}
