//! How pmq reaches Redis. `redis::` is named only here and in `functions.rs`.

use std::pin::Pin;

pub mod local;

pub(crate) mod address;
mod assurance;
pub(crate) mod blocking;
mod check;
mod cluster;
#[cfg(test)]
mod fuzz;
pub(crate) mod lane;
mod link;
mod parcel;
mod retry;
mod route;
mod routed;
mod sentinel;
pub(crate) mod server;
pub(crate) mod strict;
pub(crate) mod subscription;
pub(crate) mod topology;

pub use check::{Primary, ServerReport};
pub(crate) use retry::explain;

/// What few calls come to, on the heap: who awaits it carries neither its size nor its type.
fn on_the_heap<'a, T>(
    way: impl Future<Output = T> + Send + 'a,
) -> Pin<Box<dyn Future<Output = T> + Send + 'a>> {
    Box::pin(way)
}
