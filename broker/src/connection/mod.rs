//! How pmq reaches its broker.

pub mod local;
