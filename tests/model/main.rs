//! Models of the protocol, checked in every state that they can reach: under lost, repeated and late messages, dying and
//! paused workers, an outage and a failover.

mod bounds;
mod broker;
mod check;
mod consumer;
mod explore;
mod heal;
mod leases;
mod lock;
mod network;
mod properties;
mod removed;
mod worker;
