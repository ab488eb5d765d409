//! The worker.

pub mod child;
