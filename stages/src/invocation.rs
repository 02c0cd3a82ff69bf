//! Invocation: a call as it arrives, as it goes to the user function, and what comes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::actor::{ActorId, Definition, HostAddress};
use crate::identity::Identity;
use crate::state::{Any, Tags};

/// Free-form text that travels with a call.
pub type Metadata = BTreeMap<String, String>;

/// Metadata key that bounds the whole call: integer milliseconds as text (decision 1).
pub const REQUEST_TIMEOUT: &str = "request-timeout";

/// What a call or an answer carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Payload {
    /// Nothing was set.
    #[default]
    Unset,
    /// A message.
    Value(Any),
    /// Explicitly nothing.
    Noop,
}

impl Payload {
    /// Size in bytes.
    pub fn len(&self) -> usize {
        if let Payload::Value(any) = self { any.len() } else { 0 }
    }

    /// Whether it carries no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A call, as an ingress hands it in. Names are checked by [`check_name`](crate::actor::check_name) on admission.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    /// The actor that is called; `parent` may be empty.
    pub actor: ActorId,
    /// The action to run.
    pub action: String,
    /// What the action gets.
    pub payload: Payload,
    /// Text that travels along.
    pub metadata: Metadata,
    /// Who makes the call; the wire has no say in it.
    pub identity: Identity,
    /// The calling actor; `None` for external calls.
    pub caller: Option<ActorId>,
    /// Whether the caller waits for the answer.
    pub asynchronous: bool,
    /// Definition to spawn the actor from first; empty: none.
    pub register_ref: String,
    /// Unix time in milliseconds at which to run; 0 or less: now.
    pub scheduled_to: i64,
    /// Whether any member of a pool may serve it.
    pub pooled: bool,
    /// W3C `traceparent` of the caller; empty: none.
    pub traceparent: String,
}

impl Invocation {
    /// Size in bytes as counted against bounds: the payload, names and metadata.
    pub fn bytes(&self) -> usize {
        let metadata: usize =
            self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.payload.len() + self.action.len() + self.actor.name.len() + metadata
    }
}

/// What the host's callback is handed.
#[derive(Debug, Clone)]
pub struct ActorInvocation {
    /// Where the host listens.
    pub host: HostAddress,
    /// Identity with the parent as registered or spawned.
    pub actor: Arc<ActorId>,
    /// The action to run.
    pub action: String,
    /// Current state; `None` when there is none (never an empty `Any`).
    pub state: Option<Any>,
    /// Current tags.
    pub tags: Tags,
    /// The caller's metadata.
    pub metadata: Metadata,
    /// The calling actor, if any.
    pub caller: Option<ActorId>,
    /// Whether `self` in the context names the parent (not so for the init action).
    pub self_has_parent: bool,
    /// What the action gets.
    pub payload: Payload,
    /// W3C `traceparent`; empty: none.
    pub traceparent: String,
}

/// What the user function answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ActorInvocationResponse {
    /// New state; `None` keeps the current one.
    pub state: Option<Any>,
    /// New tags as sent; what an empty map means is a setting.
    pub tags: Tags,
    /// The answer.
    pub payload: Payload,
    /// Side effects, broadcast and routing.
    pub workflow: Workflow,
    /// Whether the state must be in the history before the answer leaves.
    pub checkpoint: bool,
}

/// What an action asks the proxy to do next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Workflow {
    /// Calls made on behalf of the actor, after its commit.
    pub effects: Vec<Invocation>,
    /// A payload for every subscriber of a channel.
    pub broadcast: Option<Broadcast>,
    /// Who answers the caller instead.
    pub routing: Option<Routing>,
}

/// A payload for every subscriber of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broadcast {
    /// Channel name.
    pub channel: String,
    /// What subscribers get.
    pub payload: Payload,
}

/// Another actor answers the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routing {
    /// The target gets the answer of this action.
    Pipe {
        /// Target actor in the same system.
        actor: String,
        /// Its action.
        action: String,
    },
    /// The target gets the request of this action.
    Forward {
        /// Target actor in the same system.
        actor: String,
        /// Its action.
        action: String,
    },
}

/// What a host announces.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The system announced.
    pub system: String,
    /// Where the host listens.
    pub host: HostAddress,
    /// Its actors and templates.
    pub definitions: Vec<Definition>,
}

/// Instances to create.
#[derive(Debug, Clone)]
pub struct Spawn {
    /// Identities; `parent` names the definition.
    pub actors: Vec<ActorId>,
    /// Revision that the first activation loads.
    pub revision: Option<u64>,
}
