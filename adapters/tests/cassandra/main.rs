//! The built binary on a real CQL server that dies, stops responding, or requires a login. The binary dies
//! too.
//!
//! `./test cql` starts the servers and passes their addresses. The tests restart the nodes that they kill,
//! so they run one at a time.

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/cassandra.rs"]
mod cassandra;

mod clock;
mod crash;
mod effects;
mod outage;
mod secure;
mod topics;
