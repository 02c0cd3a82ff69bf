//! Parts: identities, blobs and payloads, which many messages share.

use tidegate_stages::actor::ActorId;
use tidegate_stages::invocation::Payload;
use tidegate_stages::state::{ActorState, Any};

use crate::proto::eigr::functions::protocol as wire;
use crate::proto::google::protobuf as well_known;

/// Converts an identity from its message.
pub fn actor_id(id: wire::actors::ActorId) -> ActorId {
    ActorId { name: id.name, system: id.system, parent: id.parent }
}

/// Converts an identity to its message.
pub fn proto_actor_id(id: ActorId) -> wire::actors::ActorId {
    wire::actors::ActorId { name: id.name, system: id.system, parent: id.parent }
}

pub(super) fn any(any: well_known::Any) -> Any {
    Any { type_url: any.type_url, value: any.value }
}

pub(super) fn proto_any(any: Any) -> well_known::Any {
    well_known::Any { type_url: any.type_url, value: any.value }
}

/// Converts a state from its message. An empty `Any` is no state (decision 26).
pub(super) fn some_state(state: Option<well_known::Any>) -> Option<Any> {
    state.map(any).filter(|state| !state.is_empty())
}

/// Converts a state to its message. Never returns an empty `Any`: several SDKs fail on it.
pub(super) fn proto_state(state: Option<Any>) -> Option<well_known::Any> {
    state.filter(|state| !state.is_empty()).map(proto_any)
}

/// Converts tags and state from their message.
pub fn actor_state(state: wire::actors::ActorState) -> ActorState {
    ActorState { tags: state.tags, state: some_state(state.state) }
}

pub(super) fn proto_actor_state(state: ActorState) -> wire::actors::ActorState {
    wire::actors::ActorState { tags: state.tags, state: proto_state(state.state) }
}

/// Each message defines its own `oneof payload { value, noop }`, with its own field numbers.
macro_rules! payload {
    ($($oneof:path => $off:ident, $on:ident;)*) => {$(
        pub(super) fn $off(payload: Option<$oneof>) -> Payload {
            use $oneof as Oneof;
            match payload {
                None => Payload::Unset,
                Some(Oneof::Value(value)) => Payload::Value(any(value)),
                Some(Oneof::Noop(_)) => Payload::Noop,
            }
        }

        pub(super) fn $on(payload: Payload) -> Option<$oneof> {
            use $oneof as Oneof;
            match payload {
                Payload::Unset => None,
                Payload::Value(value) => Some(Oneof::Value(proto_any(value))),
                Payload::Noop => Some(Oneof::Noop(wire::Noop {})),
            }
        }
    )*};
}

payload! {
    wire::invocation_request::Payload => requested, to_request;
    wire::actor_invocation_response::Payload => answered, to_answer;
    wire::broadcast::Payload => broadcast, to_broadcast;
}

/// Converts the payload of an `ActorInvocation`, as a host does. The proxy never reads that message.
pub(super) fn handed(payload: Option<wire::actor_invocation::Payload>) -> Payload {
    use wire::actor_invocation::Payload as Oneof;
    match payload {
        None => Payload::Unset,
        Some(Oneof::Value(value)) => Payload::Value(any(value)),
        Some(Oneof::Noop(_)) => Payload::Noop,
    }
}
