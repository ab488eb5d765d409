//! How pmq reaches Redis. `redis::` is named only here and in `functions.rs`.

pub mod local;

pub(crate) mod address;
pub(crate) mod blocking;
mod check;
pub(crate) mod diagnosis;
pub(crate) mod exposure;
pub(crate) mod link;
mod login;
mod retry;
mod tls;

pub use check::ServerReport;
pub use exposure::Insecurity;
pub(crate) use retry::explain;
pub use tls::TlsProblem;
