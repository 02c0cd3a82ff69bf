//! Counter: the called actor. Its state of 256 bytes changes with every call and identifies the actor.
//!
//! The state is the count (8 bytes), the actor's number (8 bytes) and filler that depends on both. A reader detects a state that
//! is torn, stale or another actor's.

use std::future::{Ready, ready};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_stages::actor::ActorId;
use tidegate_stages::invocation::{
    ActorInvocation, ActorInvocationResponse, EFFECT_ID, Invocation, Payload, Workflow,
};
use tidegate_stages::ports::HostError;
use tidegate_stages::state::Any;
use tower::Service;

/// The action of every call.
pub const ACTION: &str = "increment";
/// The same, with a side effect: the counter whose number is the payload is called, too.
pub const EMIT: &str = "emit";

/// Side effects that reached their targets in this process, also those that came again.
pub static DELIVERED: AtomicU64 = AtomicU64::new(0);

/// Size of the state in bytes, without its type URL.
pub const STATE_BYTES: usize = 256;

const STATE_URL: &str = "type.googleapis.com/tidegate.benches.Counter";
const VALUE_URL: &str = "type.googleapis.com/google.protobuf.UInt64Value";

/// The name of an actor.
pub fn name(actor: u64) -> String {
    format!("counter-{actor:06}")
}

/// The number in an actor's name.
///
/// # Panics
/// When [`name`] did not make the name.
pub fn number(name: &str) -> u64 {
    let number = name.strip_prefix("counter-").and_then(|number| number.parse().ok());
    number.expect("a counter's name")
}

/// The state of an actor after `count` calls.
pub fn state(actor: u64, count: u64) -> Any {
    let mut bytes = BytesMut::with_capacity(STATE_BYTES);
    bytes.put_u64_le(count);
    bytes.put_u64_le(actor);
    bytes.put_bytes(filler(actor, count), STATE_BYTES - bytes.len());
    Any { type_url: STATE_URL.into(), value: bytes.freeze() }
}

/// Returns the count in an actor's state; 0 without a state.
///
/// # Panics
/// When the state is no state of this actor.
pub fn count_in(actor: u64, state: Option<&Any>) -> u64 {
    let Some(state) = state else { return 0 };
    assert_eq!((state.type_url.as_str(), state.value.len()), (STATE_URL, STATE_BYTES));
    let (head, rest) = state.value.split_at(16);
    let (count, owner) = (read(&head[..8]), read(&head[8..]));
    assert_eq!(owner, actor, "the state of another actor");
    let filler = filler(actor, count);
    assert!(rest.iter().all(|byte| *byte == filler), "a torn state");
    count
}

/// Encodes a number for calls and responses.
pub fn value(number: u64) -> Any {
    Any { type_url: VALUE_URL.into(), value: Bytes::copy_from_slice(&number.to_le_bytes()) }
}

/// Reads what [`value`] wrote.
///
/// # Panics
/// When the payload is anything else.
pub fn value_in(payload: &Payload) -> u64 {
    let Payload::Value(any) = payload else { panic!("expected a value, got {payload:?}") };
    read(&any.value)
}

/// Counts one call.
pub fn increment(actor: u64, held: Option<&Any>) -> (u64, Any) {
    let count = count_in(actor, held) + 1;
    (count, state(actor, count))
}

fn read(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("8 bytes"))
}

fn filler(actor: u64, count: u64) -> u8 {
    mix(actor ^ mix(count)).to_le_bytes()[0]
}

/// Spreads a number over 64 bits (splitmix64).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A host in this process; returns at once.
#[derive(Debug, Clone, Copy)]
pub struct CounterHost;

impl Service<ActorInvocation> for CounterHost {
    type Response = ActorInvocationResponse;
    type Error = HostError;
    type Future = Ready<Result<ActorInvocationResponse, HostError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HostError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, invocation: ActorInvocation) -> Self::Future {
        let (count, state) = increment(number(&invocation.actor.name), invocation.state.as_ref());
        let workflow = if invocation.action == EMIT {
            effect(&invocation)
        } else {
            assert_eq!(invocation.action, ACTION);
            Workflow::default()
        };
        if invocation.metadata.contains_key(EFFECT_ID) {
            DELIVERED.fetch_add(1, Ordering::Relaxed);
        }
        ready(Ok(ActorInvocationResponse {
            state: Some(state),
            payload: Payload::Value(value(count)),
            workflow,
            ..ActorInvocationResponse::default()
        }))
    }
}

/// One call of the counter that the payload names.
fn effect(invocation: &ActorInvocation) -> Workflow {
    let target = value_in(&invocation.payload);
    let system = invocation.actor.system.clone();
    let actor = ActorId { name: name(target), system, parent: String::new() };
    let payload = Payload::Value(value(target));
    let effect = Invocation { actor, action: ACTION.into(), payload, ..Invocation::default() };
    Workflow { effects: vec![effect], ..Workflow::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_tells_its_count() {
        let (count, first) = increment(7, None);
        assert_eq!((count, first.value.len()), (1, STATE_BYTES));
        assert_eq!(increment(7, Some(&first)).0, 2);
    }

    #[test]
    #[should_panic(expected = "the state of another actor")]
    fn another_actors_state_is_found_out() {
        count_in(7, Some(&state(8, 1)));
    }

    #[test]
    #[should_panic(expected = "a torn state")]
    fn a_torn_state_is_found_out() {
        let mut bytes = state(7, 1).value.to_vec();
        bytes[200] ^= 1;
        count_in(7, Some(&Any { value: bytes.into(), ..state(7, 1) }));
    }

    #[test]
    fn a_name_gives_its_number_back() {
        assert_eq!(number(&name(41)), 41);
    }
}
