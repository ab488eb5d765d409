//! How pmq reaches Redis. `redis::` is named only here and in `functions.rs`.

pub mod local;

pub(crate) mod address;
pub(crate) mod blocking;
mod check;
#[cfg(test)]
mod fuzz;
pub(crate) mod link;
mod retry;

pub use check::ServerReport;
pub(crate) use retry::explain;
