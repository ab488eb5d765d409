//! End to end.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by it, also in what tests share"
)]

mod fleet;
mod roles;
mod site;
mod store;

mod admin;
mod attempts;
mod bad_input;
mod cancel;
mod commands;
mod consumers;
mod delays;
mod faults;
mod get;
mod leases;
mod liveness;
mod map;
mod outage;
mod pool;
mod protocol;
mod refusals;
mod runners;
mod shutdown;
mod status;
mod submit;
