//! End to end.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by it, also in what tests share"
)]

mod everyday;
mod fleet;
mod guarded;
mod keys;
mod load;
mod model;
mod roles;
mod site;
mod store;

mod acl;
mod admin;
mod announced;
mod anonymous;
mod arguments;
mod attempts;
mod away;
mod bad_input;
mod barrier;
mod bench;
mod cancel;
mod cluster;
mod commands;
mod condition;
mod consumers;
mod delays;
mod durability;
mod event;
mod failover;
mod family;
mod faults;
mod get;
mod hold;
mod hung;
mod leases;
mod lending;
mod liveness;
mod local_process;
mod lock;
mod logs;
mod manager;
mod map;
mod mutual_exclusion;
mod outage;
mod pipe;
mod pool;
mod process;
mod protocol;
mod put_get;
mod queues;
mod refusals;
mod rlock;
mod run;
mod run_unread;
mod runners;
mod safety;
mod secrets;
mod sentinel;
mod shards;
mod shutdown;
mod signed;
mod status;
mod submit;
mod tampering;
mod threads;
mod tls;
mod tls_sites;
mod undone;
mod wake;
