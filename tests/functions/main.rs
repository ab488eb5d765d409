//! Every function of the library on a real server: the whole state before, one call, the whole state after.

#![expect(
    clippy::unwrap_used,
    reason = "the fixtures too are tests, and panic where the server does not do what a test needs"
)]

mod call;
mod print;
mod scenario;
mod seed;
mod shard;
mod state;

mod acl;
mod all_or_nothing;
mod cancel;
mod claim;
mod client;
mod dead;
mod desk;
mod finish;
mod fleet;
mod full;
mod headers;
mod heartbeat;
mod inspect;
mod log;
mod lone;
mod mark;
mod numbered;
mod object;
mod open;
mod queue;
mod reclaim;
mod refuse;
mod release;
mod start;
mod submit;
mod take;
mod typed;
mod wake;
mod walk;
mod watch_clock;
