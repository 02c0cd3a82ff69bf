//! Invocation: a call from the ingress, the request to the user function, and its response.

pub(crate) mod codec;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::actor::{ActorId, Definition, Encoding, HostAddress};
use crate::identity::Identity;
use crate::request_id::RequestId;
use crate::state::{Any, Tags, Timestamp};

/// Free-form text that a call carries.
pub type Metadata = BTreeMap<String, String>;

/// Metadata key for the deadline of the whole call: integer milliseconds as text (decision 1).
pub const REQUEST_TIMEOUT: &str = "request-timeout";

/// Metadata key under which a target finds the number of an effect, the same one each time it is delivered (decision 18).
pub const EFFECT_ID: &str = "tidegate-effect-id";
/// Metadata key under which the target of a schedule finds its name.
pub const SCHEDULE_NAME: &str = "tidegate-schedule";
/// Metadata key under which it finds the time for which the run is meant: integer Unix milliseconds as text.
pub const SCHEDULE_DUE: &str = "tidegate-schedule-due";
/// Metadata key by which calls for the same later time are known as one (decision 41).
pub const SCHEDULE_ID: &str = "tidegate-schedule-id";

/// The content of a call or a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Payload {
    /// The field was not set.
    #[default]
    Unset,
    /// A message.
    Value(Any),
    /// Explicitly empty.
    Noop,
}

impl Payload {
    /// Size in bytes.
    pub fn len(&self) -> usize {
        if let Payload::Value(any) = self { any.len() } else { 0 }
    }

    /// Whether the payload has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A call from an ingress. Admission checks the names with [`check_name`](crate::actor::check_name).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    /// The called actor; `parent` may be empty.
    pub actor: ActorId,
    /// The action to run.
    pub action: String,
    /// The input of the action.
    pub payload: Payload,
    /// Metadata of the call.
    pub metadata: Metadata,
    /// Who makes the call. It does not come from the message.
    pub identity: Identity,
    /// The calling actor; `None` for external calls.
    pub caller: Option<ActorId>,
    /// Whether the call returns before the action has run.
    pub asynchronous: bool,
    /// Definition from which the actor is spawned first; empty: none.
    pub register_ref: String,
    /// Unix time in milliseconds at which to run; 0: no time is named. One that is past, or negative, means now.
    pub scheduled_to: i64,
    /// Whether any member of a pool may serve it.
    pub pooled: bool,
    /// The trace context of the caller, as [`context`](crate::traces::context) writes it; empty: none.
    pub traceparent: String,
    /// Which request makes it. It is not stored.
    pub request: RequestId,
}

impl Invocation {
    /// Whether its caller waits for the answer.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.asynchronous && self.scheduled_to == 0
    }

    /// Its caller's own bound on the whole call.
    pub(crate) fn whole_limit(&self) -> Option<Duration> {
        let millis = self.metadata.get(REQUEST_TIMEOUT)?.trim().parse().ok()?;
        Some(Duration::from_millis(millis))
    }

    /// Size in bytes that counts against bounds: payload, names and metadata.
    pub fn bytes(&self) -> usize {
        let metadata: usize =
            self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.payload.len() + self.action.len() + self.actor.name.len() + metadata
    }

    /// Whether it is meant for a later time than this one.
    pub(crate) fn is_due_after(&self, time: Timestamp) -> bool {
        u64::try_from(self.scheduled_to).unwrap_or(0).saturating_mul(1000) > time.0
    }
}

/// What counts the bytes of an answer, beside the client of its host: the place of its turn at the checkpoint.
pub trait AnswerBound: Debug + Send + Sync {
    /// Takes what an answer of so many bytes needs, before these are read. Returns how many of them the client has to count
    /// itself; `None` when it has to wait for [`reach`](Self::reach).
    fn try_reach(&self, bytes: usize) -> Option<usize>;

    /// The same, and waits in line until it is free. `is_whole`: the answer has no more bytes than these.
    ///
    /// # Errors
    /// When that takes too long. Then the answer is not read on.
    fn reach(
        self: Arc<Self>,
        bytes: usize,
        is_whole: bool,
    ) -> BoxFuture<'static, Result<usize, NoBytes>>;

    /// Notes that the answer waits in a line of the client, or no longer. That time is not its host's.
    fn waits(&self, waits: bool);
}

/// There were no bytes for an answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoBytes;

/// The request to the user function.
#[derive(Debug, Clone)]
pub struct ActorInvocation {
    /// Address of the host.
    pub host: HostAddress,
    /// How the host wants its calls.
    pub encoding: Encoding,
    /// Identity, with the parent as registered or spawned.
    pub actor: Arc<ActorId>,
    /// The action to run.
    pub action: String,
    /// Current state; `None` for no state (never an empty `Any`).
    pub state: Option<Any>,
    /// Current tags.
    pub tags: Tags,
    /// The caller's metadata.
    pub metadata: Metadata,
    /// The calling actor, if any.
    pub caller: Option<ActorId>,
    /// Whether `self` in the context names the parent (false for the init action).
    pub self_has_parent: bool,
    /// The input of the action.
    pub payload: Payload,
    /// The trace context, as [`context`](crate::traces::context) writes it; empty: none.
    pub traceparent: String,
    /// What counts the bytes of the answer; `None` leaves all of them to the client of the host.
    pub answer: Option<Arc<dyn AnswerBound>>,
}

/// The response of the user function.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ActorInvocationResponse {
    /// New state; `None` keeps the current one, an empty `Any` removes it.
    pub state: Option<Any>,
    /// New tags as sent. A setting decides what an empty map means.
    pub tags: Tags,
    /// The response to the caller.
    pub payload: Payload,
    /// Side effects, broadcast and routing.
    pub workflow: Workflow,
    /// Whether the state must be in the history before the reply is sent.
    pub checkpoint: bool,
}

/// What a broadcast came to: in how many mailboxes of subscribers it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reached {
    /// Subscribers in whose mailboxes it is.
    pub subscribers: u64,
    /// Subscribers that were left out: they have too many deliveries waiting, or do not have the action.
    pub dropped: u64,
}

/// What the proxy does after an action.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Workflow {
    /// Calls in the name of the actor, after its commit.
    pub effects: Vec<Invocation>,
    /// A payload for every subscriber of a channel.
    pub broadcast: Option<Broadcast>,
    /// The actor that replies to the caller instead.
    pub routing: Option<Routing>,
}

/// A payload for every subscriber of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broadcast {
    /// Channel name.
    pub channel: String,
    /// Input of the subscribers.
    pub payload: Payload,
}

/// Another actor replies to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routing {
    /// The target receives the response of this action.
    Pipe {
        /// Target actor in the same system.
        actor: String,
        /// Its action.
        action: String,
    },
    /// The target receives the request of this action.
    Forward {
        /// Target actor in the same system.
        actor: String,
        /// Its action.
        action: String,
    },
}

/// The registration of a host.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The system of the actors.
    pub system: String,
    /// Address of the host.
    pub host: HostAddress,
    /// The actors and templates of the host.
    pub definitions: Vec<Definition>,
}

/// Instances to create.
#[derive(Debug, Clone)]
pub struct Spawn {
    /// Identities; `parent` names the definition.
    pub actors: Vec<ActorId>,
    /// Revision that the first activation loads, if any.
    pub revision: Option<u64>,
}
