//! Child processes: commands that run once, and the guard that kills them with their worker.

mod attached;
mod capture;
mod command;
mod deadline;
mod directory;
mod ended;
mod error;
mod group;
mod guard;
mod program;
#[cfg(test)]
pub(crate) mod testing;

pub use attached::Attached;
pub use capture::{Captured, Stream};
pub use command::{Command, Stop};
pub(crate) use deadline::until;
pub use ended::{Ended, Exit, Why};
pub use error::CommandError;
pub use guard::{Guard, MARK};
pub use program::Program;
pub(crate) use program::Running;
