//! Counter: the only actor of the load tests. Every byte of its state depends on the actor and its count.
//!
//! A state is the count (8 bytes, little endian), then filler that depends on actor and count. So every call changes every byte,
//! and the host detects a state that is mixed up, torn or stale.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::proto::eigr::functions::protocol::actors::{Actor, ActorId, ActorSystem};
use crate::proto::eigr::functions::protocol::{
    ActorInvocation, ActorInvocationResponse, Context, InvocationRequest, SideEffect, Workflow,
    actor_invocation, actor_invocation_response, invocation_request,
};
use crate::proto::google::protobuf::Any;

/// The action that counts one call.
pub const ACTION: &str = "increment";
/// The same, with a side effect: the counter whose number is the payload is called, too.
pub const EMIT: &str = "emit";
/// The smallest state with filler, in bytes.
pub const MIN_STATE_BYTES: usize = 16;

const STATE_URL: &str = "type.googleapis.com/tidegate.loadtests.Counter";
const VALUE_URL: &str = "type.googleapis.com/google.protobuf.UInt64Value";

/// Why the counter refuses an invocation.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    #[error("the invocation names no actor")]
    Nobody,
    #[error("unknown action {0:?}, only {ACTION:?} and {EMIT:?} are served")]
    UnknownAction(String),
    #[error("the payload of {EMIT:?} is no number of a counter")]
    NoTarget,
    #[error("the state of {0:?} is not one that this actor ever had")]
    ForeignState(String),
}

/// The name of the `index`th counter.
pub fn actor_name(index: usize) -> String {
    format!("counter-{index:06}")
}

/// Spreads a number over 64 bits (splitmix64): filler, seeds and the choice of actors.
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The state of `actor` after `count` calls, `len` bytes long (at least [`MIN_STATE_BYTES`]).
pub fn state(actor: &str, count: u64, len: usize) -> Any {
    let len = len.max(MIN_STATE_BYTES);
    let mut bytes = BytesMut::with_capacity(len + 8);
    bytes.put_u64_le(count);
    let mut seed = mix(name_hash(actor) ^ mix(count));
    while bytes.len() < len {
        bytes.put_u64_le(mix(seed));
        seed = seed.wrapping_add(1);
    }
    bytes.truncate(len);
    Any { type_url: STATE_URL.into(), value: bytes.freeze() }
}

/// Returns the count in a state; `None` when the state does not belong to `actor`.
pub fn count_in(actor: &str, held: &Any) -> Option<u64> {
    let count = u64::from_le_bytes(held.value.get(..8)?.try_into().ok()?);
    (*held == state(actor, count, held.value.len())).then_some(count)
}

/// Encodes a count for requests and responses.
pub fn value(count: u64) -> Any {
    Any { type_url: VALUE_URL.into(), value: Bytes::from(count.encode_to_vec()) }
}

/// Reads what [`value`] wrote.
pub fn value_in(any: &Any) -> Option<u64> {
    (any.type_url == VALUE_URL).then(|| u64::decode(any.value.clone()).ok())?
}

/// The host's action: increments the count by one and returns the new count and the new state.
///
/// # Errors
/// When the invocation is not for this actor; then nothing was counted.
pub fn increment(
    invocation: ActorInvocation,
    state_bytes: usize,
) -> Result<ActorInvocationResponse, Refused> {
    let actor = invocation.actor.ok_or(Refused::Nobody)?;
    let workflow = match invocation.action_name.as_str() {
        ACTION => None,
        EMIT => Some(effect(&actor.system, invocation.payload).ok_or(Refused::NoTarget)?),
        _ => return Err(Refused::UnknownAction(invocation.action_name)),
    };
    let context = invocation.current_context.unwrap_or_default();
    let count = match &context.state {
        None => 0,
        Some(held) => {
            count_in(&actor.name, held).ok_or_else(|| Refused::ForeignState(actor.name.clone()))?
        }
    } + 1;
    let state = Some(state(&actor.name, count, state_bytes));
    Ok(ActorInvocationResponse {
        updated_context: Some(Context { state, ..Context::default() }),
        payload: Some(actor_invocation_response::Payload::Value(value(count))),
        actor_name: actor.name,
        actor_system: actor.system,
        workflow,
        ..ActorInvocationResponse::default()
    })
}

/// Calls the counter whose number is the payload.
fn effect(system: &str, payload: Option<actor_invocation::Payload>) -> Option<Workflow> {
    let Some(actor_invocation::Payload::Value(any)) = payload else { return None };
    let target = usize::try_from(value_in(&any)?).ok()?;
    let request = invocation(system, &actor_name(target), ACTION, value(1));
    Some(Workflow { effects: vec![SideEffect { request: Some(request) }], ..Workflow::default() })
}

/// A call to a counter.
pub fn invocation(system: &str, name: &str, action: &str, payload: Any) -> InvocationRequest {
    let id = ActorId { name: name.into(), system: system.into(), parent: String::new() };
    InvocationRequest {
        system: Some(ActorSystem { name: system.into(), registry: None }),
        actor: Some(Actor { id: Some(id), ..Actor::default() }),
        action_name: action.into(),
        payload: Some(invocation_request::Payload::Value(payload)),
        ..InvocationRequest::default()
    }
}

fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(state: Option<Any>) -> ActorInvocation {
        ActorInvocation {
            actor: Some(ActorId { name: "a".into(), ..ActorId::default() }),
            action_name: ACTION.into(),
            current_context: Some(Context { state, ..Context::default() }),
            ..ActorInvocation::default()
        }
    }

    #[test]
    fn a_state_counts_up_from_the_one_before() {
        let first = increment(call(None), 256).unwrap().updated_context.unwrap().state.unwrap();
        assert_eq!((first.value.len(), count_in("a", &first)), (256, Some(1)));
        let second = increment(call(Some(first)), 256).unwrap();
        let state = second.updated_context.unwrap().state.unwrap();
        assert_eq!(count_in("a", &state), Some(2));
    }

    #[test]
    fn emitting_counts_and_calls_the_counter_of_the_payload() {
        let payload = Some(actor_invocation::Payload::Value(value(7)));
        let emit = || ActorInvocation { action_name: EMIT.into(), ..call(None) };
        let answer = increment(ActorInvocation { payload, ..emit() }, 256).unwrap();
        let state = answer.updated_context.unwrap().state.unwrap();
        assert_eq!(count_in("a", &state), Some(1));
        let effects = answer.workflow.unwrap().effects;
        let target = effects[0].request.clone().unwrap().actor.unwrap().id.unwrap();
        assert_eq!((effects.len(), target.name), (1, actor_name(7)));
        assert_eq!(increment(emit(), 256), Err(Refused::NoTarget));
    }

    #[test]
    fn a_foreign_or_torn_state_is_refused() {
        let foreign = state("b", 7, 256);
        assert_eq!(increment(call(Some(foreign)), 256), Err(Refused::ForeignState("a".into())));
        let mut torn = state("a", 7, 256);
        torn.value = [&torn.value[..128], &state("a", 6, 256).value[128..]].concat().into();
        assert_eq!(increment(call(Some(torn)), 256), Err(Refused::ForeignState("a".into())));
    }

    #[test]
    fn every_call_changes_the_whole_state() {
        let (before, after) = (state("a", 1, 256), state("a", 2, 256));
        let same = before.value[8..].iter().zip(&after.value[8..]).filter(|(a, b)| a == b).count();
        assert!(same < 16, "{same} of 248 bytes stayed");
    }

    #[test]
    fn a_value_reads_back() {
        assert_eq!(value_in(&value(42)), Some(42));
        assert_eq!(value_in(&state("a", 42, 16)), None);
    }
}
