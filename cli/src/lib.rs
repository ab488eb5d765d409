//! The command `pmq`.
pub mod map;

use std::process::ExitCode;
/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
