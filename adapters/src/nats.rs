//! NATS: calls between actor systems, on Spawn's subjects.
//!
//! `client` carries messages over a connection to NATS servers; it is the port [`Bus`](tidegate_stages::ports::Bus). Over any
//! bus, `calls` sends calls to systems that are not registered here, and `serve` answers calls from other systems to registered ones. `told` writes what
//! failed into a header of the answer. `channels` brings broadcasts to other proxies of the same system.

mod calls;
mod channels;
mod client;
mod context;
mod metrics;
mod replies;
mod serve;
mod subject;
mod systems;
mod told;

pub use calls::NatsCalls;
pub use channels::{NatsListening, NatsMembers};
pub use client::{Carries, NatsAuth, NatsBus, NatsError, NatsOptions};
pub use serve::NatsServing;
pub use subject::actions as subject_of_actions;

#[cfg(test)]
mod tests;
