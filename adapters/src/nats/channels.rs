//! Channels: broadcasts between the proxies that have subscribers of the same system.
//!
//! `outgoing` sends the broadcasts of this proxy, `incoming` takes the broadcasts of other proxies. A proxy numbers its messages of
//! each topic. By these numbers `gaps` finds messages that are repeated, and counts messages that were missed.

mod gaps;
mod incoming;
mod outgoing;

pub use incoming::NatsListening;
pub use outgoing::NatsMembers;
