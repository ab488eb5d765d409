//! Whatever arrives from outside, pmq reads it or refuses it: it neither panics nor lets through what it should not.
//!
//! Each target begins with valid inputs that the encoder makes, and changes them a little. What no other crate can
//! see has its target beside it: `fuzz.rs` in the crates `pmq-broker` and `pmq-worker`. The functions have theirs in
//! `tests/functions/fuzz.rs`.

#![expect(
    clippy::unwrap_used,
    reason = "what the targets prepare is tested code too"
)]

mod exercise;
mod liar;
mod resp;
mod task;

mod completion;
mod config;
mod conservation;
mod durations;
mod envelope;
mod functions;
mod joblog;
mod map_words;
mod names;
mod replies;
mod sealing;
mod templates;
