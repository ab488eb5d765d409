//! End to end.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by it, also in what tests share"
)]

mod admin;
mod bad_input;
mod get;
mod map;
mod site;
mod status;
mod submit;
