//! NATS: calls between actor systems, on Spawn's subjects.
//!
//! `client` carries messages over a connection to NATS servers; it is the port [`Bus`](tidegate_stages::ports::Bus). Over any
//! bus, `calls` sends calls to systems that are not registered here, and `serve` answers calls from other systems to registered ones. `told` writes what
//! failed into a header of the answer.

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
