//! Each object beside a plain one in memory: random steps by several clients, with crashes and leases that end.

mod dict;
mod handles;
mod list;
mod queue;
mod value;
