//! Channels: broadcasts between the proxies that have subscribers of the same system.
//!
//! `outgoing` sends those of this proxy, `incoming` takes those of others. Each message has its number among those of its topic, so
//! `gaps` knows repeated ones, and counts what was missed.

mod gaps;
mod incoming;
mod outgoing;

pub use incoming::NatsListening;
pub use outgoing::NatsMembers;
