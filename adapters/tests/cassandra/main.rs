//! The built binary on a real CQL server, which, as the binary does, dies, is silent, and asks who is there.
//!
//! `./test cql` starts the servers and says where they are. Nodes that are killed are started by the tests themselves,
//! which is why they run one at a time.

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/cassandra.rs"]
mod cassandra;

mod crash;
mod outage;
mod secure;
