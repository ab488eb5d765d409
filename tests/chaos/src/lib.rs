//! The trust in pmq: real servers and processes under faults, their histories, and a checker of what they saw.
//!
//! In reading order: [`history`] is what processes write down; [`checker`] is what a history must not show; `role` are
//! the processes; `run` drives them through faults and judges.

pub mod checker;
pub mod history;
pub mod role;
pub mod run;
