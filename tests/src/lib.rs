//! Fixtures for tests against the real thing: servers, a cluster, a faulty network, the command as a process.
//!
//! They panic with what they know (a server's log, a program's output) instead of returning errors, for that
//! is how a test fails. Whatever they start ends with the test process, even if that is killed.

#![expect(
    clippy::missing_panics_doc,
    reason = "every fixture panics when the machine does not do what the test needs"
)]

mod watchdog;

pub mod certificates;
pub mod cluster;
pub mod daemon;
pub mod fuzz;
pub mod program;
pub mod proxy;
pub mod redis_server;
pub mod scratch;
pub mod sentinel;
pub mod shared;
pub mod wait;

pub use cluster::Cluster;
pub use program::Program;
pub use proxy::{Hold, Proxy};
pub use redis_server::RedisServer;
pub use scratch::Scratch;
pub use sentinel::SentinelGroup;
pub use shared::{Redis, shared};
pub use wait::{eventually, eventually_async, eventually_or};
