//! The worker.

pub mod child;
pub mod runner;
