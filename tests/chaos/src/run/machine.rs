//! What a run needs of the machine: it plays itself again under strace, or on a small disk.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use super::family::Need;
use super::{clock, power};

/// Set for a run that has what it needs.
const EQUIPPED: &str = "PMQ_CHAOS_EQUIPPED";
/// Large enough for an idle server and its log of changes, small enough to be filled at once.
const DISK: &str = "48m";

/// Whether the run can go on in this process.
pub enum Equipped {
    /// It can.
    Here,
    /// It was played in another process, which ended so.
    Elsewhere(ExitCode),
    /// The machine does not have what it takes.
    Not(String),
}

/// Gives a run what it needs.
pub fn equip(need: Need) -> Result<Equipped> {
    if need == Need::Nothing || std::env::var_os(EQUIPPED).is_some() {
        return Ok(Equipped::Here);
    }
    let directory = std::env::temp_dir().join(format!("pmqc{}", std::process::id()));
    fs::create_dir(&directory)?;
    let equipped = match need {
        Need::Strace if !works("strace", &["-V"]) => {
            Equipped::Not("strace is not installed (scripts/install-tools)".into())
        }
        Need::SmallDisk if !works("unshare", &["--mount", "true"]) => {
            Equipped::Not("a small disk takes root".into())
        }
        Need::Faketime if clock::library().is_none() => {
            Equipped::Not("faketime is not installed (scripts/install-tools)".into())
        }
        Need::Faketime => Equipped::Here,
        Need::Strace => Equipped::Elsewhere(again_under_strace(&directory)?),
        _ => Equipped::Elsewhere(again_on_a_small_disk(&directory)?),
    };
    let _ = fs::remove_dir_all(&directory);
    Ok(equipped)
}

fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn again_under_strace(directory: &Path) -> Result<ExitCode> {
    let mut command = again()?;
    command.env("PMQ_SERVER_BIN", power::wrapper(directory, &server())?);
    end_of(&mut command)
}

/// The server that a run would start otherwise.
fn server() -> String {
    std::env::var("PMQ_SERVER_BIN").unwrap_or_else(|_| "redis-server".into())
}

fn again() -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).env(EQUIPPED, "1");
    Ok(command)
}

/// In a mount namespace of its own, so that nothing stays mounted whatever happens.
fn again_on_a_small_disk(directory: &Path) -> Result<ExitCode> {
    let mount = format!("mount -t tmpfs -o size={DISK} tmpfs \"$0\" && exec \"$@\"");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", &mount])
        .arg(directory)
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env("TMPDIR", directory)
        .env(EQUIPPED, "1");
    end_of(&mut command)
}

fn end_of(command: &mut Command) -> Result<ExitCode> {
    let status = command
        .status()
        .context("could not play the run in its surroundings")?;
    Ok(ExitCode::from(status.code().unwrap_or(1) as u8))
}
