//! How pmq reaches Redis. `redis::` is named only here and in `functions.rs`.

use std::pin::Pin;

pub mod local;

pub(crate) mod address;
mod assurance;
pub(crate) mod blocking;
mod check;
mod cluster;
pub(crate) mod diagnosis;
pub(crate) mod exposure;
#[cfg(test)]
mod fuzz;
pub(crate) mod lane;
mod link;
pub(crate) mod login;
mod parcel;
mod refusal;
mod retry;
mod route;
mod routed;
mod sentinel;
pub(crate) mod server;
pub(crate) mod strict;
pub(crate) mod subscription;
mod tls;
pub(crate) mod topology;

pub use check::{Primary, ServerReport};
pub use exposure::Insecurity;
pub(crate) use retry::explain;
pub use tls::TlsProblem;

/// What few calls come to, on the heap: who awaits it carries neither its size nor its type.
fn on_the_heap<'a, T>(
    way: impl Future<Output = T> + Send + 'a,
) -> Pin<Box<dyn Future<Output = T> + Send + 'a>> {
    Box::pin(way)
}
