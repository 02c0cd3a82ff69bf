//! Request: decodes the invocations and spawns of callers.

use bytes::Bytes;
use prost::Message;
use tidegate_stages::actor::ActorId;
use tidegate_stages::identity::Identity;
use tidegate_stages::invocation::{Invocation, Metadata, Spawn};
use tidegate_stages::request_id::RequestId;

use super::parts::{actor_id, proto_actor_id, requested, to_request};
use super::{Malformed, count};
use crate::proto::eigr::functions::protocol as wire;

/// `InvocationRequest`, with the two echoed parts as the caller's bytes.
#[derive(Clone, PartialEq, Message)]
struct InvocationFrame {
    #[prost(bytes = "bytes", optional, tag = "1")]
    system: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    actor: Option<Bytes>,
    #[prost(string, tag = "3")]
    action_name: String,
    #[prost(bool, tag = "5")]
    asynchronous: bool,
    #[prost(message, optional, tag = "6")]
    caller: Option<wire::actors::ActorId>,
    #[prost(oneof = "wire::invocation_request::Payload", tags = "4, 7")]
    payload: Option<wire::invocation_request::Payload>,
    #[prost(btree_map = "string, string", tag = "8")]
    metadata: Metadata,
    #[prost(int64, tag = "9")]
    scheduled_to: i64,
    #[prost(bool, tag = "10")]
    pooled: bool,
    #[prost(string, tag = "11")]
    register_ref: String,
}

/// The part of an `ActorSystem` that a call needs. Its text is checked where it is used: most calls repeat it in the actor.
#[derive(Clone, PartialEq, Message)]
struct SystemName {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
}

/// The part of an `Actor` that a call needs.
#[derive(Clone, PartialEq, Message)]
struct ActorWithId {
    #[prost(message, optional, tag = "1")]
    id: Option<wire::actors::ActorId>,
}

/// The parts that a response repeats: the request's `system` and `actor`, byte for byte.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Echo {
    /// Encoded `ActorSystem`.
    pub system: Bytes,
    /// Encoded `Actor`.
    pub actor: Bytes,
}

/// A decoded `InvocationRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// The call. Boxed, as it passes many functions.
    pub invocation: Box<Invocation>,
    /// The parts that its response repeats.
    pub echo: Echo,
}

/// Reads an `InvocationRequest`.
///
/// # Errors
/// When the body cannot be decoded, or names no system or actor.
pub fn invocation(body: Bytes) -> Result<Called, Malformed> {
    const MESSAGE: &str = "InvocationRequest";
    let missing = |field| Malformed::Missing { message: MESSAGE, field };
    let undecodable = |error| Malformed::undecodable(MESSAGE, &error);
    let frame = InvocationFrame::decode(body).map_err(undecodable)?;
    let system = frame.system.ok_or_else(|| missing("system"))?;
    let actor = frame.actor.ok_or_else(|| missing("actor"))?;
    let named = SystemName::decode(system.clone()).map_err(undecodable)?.name;
    // Text is copied: out of a slice that costs least.
    let id = ActorWithId::decode(&*actor).map_err(undecodable)?.id;
    let mut id = actor_id(id.ok_or_else(|| missing("actor.id"))?);
    if id.system.as_bytes() != named && !named.is_empty() {
        let named = std::str::from_utf8(&named).map_err(|error| Malformed::Undecodable {
            message: MESSAGE,
            reason: format!("system.name: {error}"),
        })?;
        if !id.system.is_empty() {
            let reason = format!("names system {:?}, but system.name is {named:?}", id.system);
            return Err(Malformed::wrong("InvocationRequest.actor.id", reason));
        }
        named.clone_into(&mut id.system);
    }
    let invocation = Box::new(Invocation {
        actor: id,
        action: frame.action_name,
        payload: requested(frame.payload),
        metadata: frame.metadata,
        identity: Identity::default(),
        request: RequestId::None,
        caller: frame.caller.map(actor_id),
        asynchronous: frame.asynchronous,
        register_ref: frame.register_ref,
        scheduled_to: frame.scheduled_to,
        pooled: frame.pooled,
        traceparent: String::new(),
    });
    Ok(Called { invocation, echo: Echo { system, actor } })
}

/// Converts the call inside a side effect.
///
/// Missing names stay empty. Admission then refuses this effect and no other.
pub(super) fn effect(request: wire::InvocationRequest) -> Invocation {
    let mut actor = request.actor.and_then(|actor| actor.id).map(actor_id).unwrap_or_default();
    if actor.system.is_empty() {
        actor.system = request.system.map(|system| system.name).unwrap_or_default();
    }
    Invocation {
        actor,
        action: request.action_name,
        payload: requested(request.payload),
        metadata: request.metadata,
        identity: Identity::default(),
        request: RequestId::None,
        caller: request.caller.map(actor_id),
        asynchronous: request.r#async,
        register_ref: request.register_ref,
        scheduled_to: request.scheduled_to,
        pooled: request.pooled,
        traceparent: String::new(),
    }
}

/// Converts a call to its message. The message does not carry the trace context.
pub fn invocation_request(invocation: Invocation) -> wire::InvocationRequest {
    let system =
        wire::actors::ActorSystem { name: invocation.actor.system.clone(), registry: None };
    let actor = wire::actors::Actor {
        id: Some(proto_actor_id(invocation.actor)),
        ..wire::actors::Actor::default()
    };
    wire::InvocationRequest {
        system: Some(system),
        actor: Some(actor),
        action_name: invocation.action,
        r#async: invocation.asynchronous,
        caller: invocation.caller.map(proto_actor_id),
        metadata: invocation.metadata,
        scheduled_to: invocation.scheduled_to,
        pooled: invocation.pooled,
        register_ref: invocation.register_ref,
        payload: to_request(invocation.payload),
    }
}

/// Encodes a call as an `InvocationRequest`, without the trace context.
pub fn encode_invocation(invocation: Invocation) -> Bytes {
    invocation_request(invocation).encode_to_vec().into()
}

/// Reads a `SpawnRequest` of at most so many actors; `revision` comes from the query of the URL.
///
/// # Errors
/// When the body cannot be decoded or names too many actors.
pub fn spawn(body: Bytes, revision: Option<u64>, max_actors: usize) -> Result<Spawn, Malformed> {
    count::check(&body, &[1], "SpawnRequest.actors", max_actors)?;
    let request = wire::SpawnRequest::decode(body)
        .map_err(|error| Malformed::undecodable("SpawnRequest", &error))?;
    let actors: Vec<ActorId> = request.actors.into_iter().map(actor_id).collect();
    Ok(Spawn { actors, revision })
}
