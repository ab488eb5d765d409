//! pmq's performance on a broker, each figure beside its floor: the same key operations as plain pipelined commands, for
//! the same batch, in the same run, with no code of pmq.
//!
//! `figures` says what is measured, `role` what the processes do that are measured, `floor` what a plain client
//! does in their place. All keys are in a namespace of the run, which is gone when it ends.

#[expect(clippy::disallowed_types, reason = "the floor is raw Redis")]
mod client;
mod crew;
mod figure;
pub mod figures;
mod floor;
mod info;
mod plot;
mod progress;
pub mod role;
mod site;
mod stats;

pub use crew::Launch;
pub use figure::{Figure, Report, Section};
pub use figures::{Group, Options};
pub use role::Role;
pub use site::Site;
