//! Every function of the library on a real server: the whole state before, one call, the whole state after.

mod call;
mod seed;
mod shard;
mod state;

mod cancel;
mod claim;
mod client;
mod dead;
mod finish;
mod fleet;
mod heartbeat;
mod inspect;
mod queue;
mod reclaim;
mod refuse;
mod release;
mod submit;
mod take;
