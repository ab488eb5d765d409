//! Every function of the library on a real server: the whole state before, one call, the whole state after.

mod call;
mod seed;
mod shard;
mod state;

mod claim;
mod submit;
