//! The broker.

pub mod connection;
