//! Call: a call that differs from all others, and a state that records the calls it has received.

use std::time::Duration;

use tidegate_stages::invocation::{Invocation, Payload};

use crate::support::counter::{ADD, call};
use crate::support::proto::{Any, InvocationRequest, invocation_request};

/// The number of a call, unique within a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CallId(pub(crate) u32);

/// Marks the number of an effect.
const EFFECT: u32 = 1 << 31;

impl CallId {
    /// The effect of this call.
    pub(crate) fn effect(self) -> Self {
        Self(self.0 | EFFECT)
    }

    /// Whether this is an effect of a call.
    pub(crate) fn is_effect(self) -> bool {
        self.0 & EFFECT != 0
    }

    /// The call whose effect this is.
    pub(crate) fn cause(self) -> Self {
        Self(self.0 & !EFFECT)
    }
}

const BYTES: usize = 4;

fn any(kind: &str, value: Vec<u8>) -> Any {
    Any { type_url: format!("type.googleapis.com/tidegate.test.{kind}"), value: value.into() }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

/// A call that adds its number to the actor's state and takes that long.
pub(crate) fn request(actor: &str, id: CallId, takes: Duration) -> InvocationRequest {
    let takes = u32::try_from(takes.as_millis()).expect("a short time");
    let value = [id.0.to_le_bytes(), takes.to_le_bytes()].concat();
    let payload = invocation_request::Payload::Value(any("Call", value));
    InvocationRequest { payload: Some(payload), ..call(actor, ADD) }
}

/// The number of a call and how long it takes, from its payload.
pub(crate) fn read(value: &[u8]) -> (CallId, Duration) {
    let (id, takes) = value.split_at(BYTES);
    (CallId(number(id)), Duration::from_millis(number(takes).into()))
}

/// The number of a call at admission; `None` for calls without a payload.
pub(crate) fn id_of(invocation: &Invocation) -> Option<CallId> {
    match &invocation.payload {
        Payload::Value(value) => Some(read(&value.value).0),
        Payload::Unset | Payload::Noop => None,
    }
}

/// The state that tells of these calls.
pub(crate) fn state_of(calls: &[CallId]) -> Any {
    any("Calls", calls.iter().flat_map(|id| id.0.to_le_bytes()).collect())
}

/// The calls that a state tells of; none for no state.
pub(crate) fn calls_of(state: Option<&Any>) -> Vec<CallId> {
    let bytes = state.map_or(&[][..], |state| &state.value);
    bytes.chunks(BYTES).map(|bytes| CallId(number(bytes))).collect()
}
