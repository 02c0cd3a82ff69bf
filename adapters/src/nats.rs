//! NATS: calls between actor systems, on Spawn's subjects.
//!
//! `client` carries messages over a connection to NATS servers; it is the port [`Bus`](tidegate_stages::ports::Bus). Over any bus
//! `calls` sends the calls for systems that are not registered here, and `serve` takes those for systems that are. `told` says in a header of an answer what failed.

mod calls;
mod client;
mod metrics;
mod replies;
mod serve;
mod subject;
mod told;

pub use calls::NatsCalls;
pub use client::{NatsAuth, NatsBus, NatsError, NatsOptions};
pub use serve::NatsServing;
pub use subject::actions as subject_of_actions;

#[cfg(test)]
mod tests;
