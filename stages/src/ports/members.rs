//! Members: broadcasts between the proxies that have actors of the same system.

use std::fmt::Debug;

use crate::actor::ActorId;
use crate::invocation::Payload;

/// A broadcast on its way to other members, or from one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberBroadcast {
    /// The system of the topic.
    pub system: String,
    /// The topic.
    pub topic: String,
    /// What is sent.
    pub payload: Payload,
    /// The actor that sends it; `None` for a client.
    pub caller: Option<ActorId>,
    /// W3C trace context.
    pub traceparent: String,
}

/// The other proxies that have subscribers in the same systems.
pub trait OtherMembers: Debug + Send + Sync + 'static {
    /// Sends a broadcast to them, at most once and behind those of its topic that were sent before. Returns at once; what
    /// cannot be sent is dropped and counted.
    fn publish(&self, broadcast: MemberBroadcast);
}
