//! Call: a call that differs from all others, and a state that records the calls it has received.

use std::fmt;
use std::time::Duration;

use tidegate_stages::invocation::Payload;

use crate::support::counter::{ADD, call};
use crate::support::proto::{Any, InvocationRequest, invocation_request};

/// Who makes a call, and so how often it may run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A client: it runs at most once.
    #[default]
    Call,
    /// A client, for a later time: once accepted it runs at least once.
    Due,
    /// A client, to a topic: each subscriber runs it at most once.
    Publication,
    /// Another actor: it counts once, and may run again until it does.
    Effect,
    /// Another actor, for a later time: it runs at least once.
    Delayed,
    /// A topic: it runs at most once.
    Message,
    /// A schedule: it counts once, and may run again until it does.
    Run,
    /// A timer: it runs at most once.
    Tick,
}

/// The number of a call, unique within a simulation. A message, effect, run or tick has a number that is composed of three: its kind,
/// its subscriber or schedule, and the number of the call that caused it, of the run or of the tick.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CallId(pub(crate) u32);

/// What is no call of a client; the place is in the number.
const KINDS: [Kind; 6] =
    [Kind::Call, Kind::Effect, Kind::Delayed, Kind::Message, Kind::Run, Kind::Tick];
const KIND: u32 = 29;
const WHICH: u32 = 24;
/// The bits of `which`, and of the number.
const WHICH_BITS: u32 = 0x1f;
const NUMBER_BITS: u32 = 0x00ff_ffff;

impl CallId {
    /// A call that no client makes.
    pub(crate) fn of(kind: Kind, which: usize, number: u32) -> Self {
        let kind = KINDS.iter().position(|other| *other == kind).expect("a kind of its own");
        let part = |part: usize| u32::try_from(part).expect("a few");
        Self(part(kind) << KIND | part(which) << WHICH | number)
    }

    /// What this call causes.
    pub(crate) fn causes(self, kind: Kind) -> Self {
        Self::of(kind, 0, self.0)
    }

    /// The same message at one of its subscribers.
    pub(crate) fn at(self, subscriber: usize) -> Self {
        Self::of(Kind::Message, subscriber, self.number())
    }

    /// Its kind; [`Kind::Call`] for all calls of clients.
    pub(crate) fn kind(self) -> Kind {
        KINDS[(self.0 >> KIND) as usize]
    }

    /// Which subscriber or schedule it belongs to.
    pub(crate) fn which(self) -> usize {
        (self.0 >> WHICH & WHICH_BITS) as usize
    }

    /// The number of its cause, of the run or of the tick.
    pub(crate) fn number(self) -> u32 {
        self.0 & NUMBER_BITS
    }

    /// The call of a client that caused it.
    pub(crate) fn cause(self) -> Self {
        Self(self.number())
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = self.which();
        write!(f, "{:?}({})", self.kind(), self.number())?;
        if which == 0 { Ok(()) } else { write!(f, "@{which}") }
    }
}

const BYTES: usize = 4;

fn any(kind: &str, value: Vec<u8>) -> Any {
    Any { type_url: format!("type.googleapis.com/tidegate.test.{kind}"), value: value.into() }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

/// What a call carries: its number, and how long it takes.
pub(crate) fn payload(id: CallId, takes: Duration) -> Any {
    let takes = u32::try_from(takes.as_millis()).expect("a short time");
    any("Call", [id.0.to_le_bytes(), takes.to_le_bytes()].concat())
}

/// A call that adds its number to the actor's state and takes that long.
pub(crate) fn request(actor: &str, id: CallId, takes: Duration) -> InvocationRequest {
    let payload = invocation_request::Payload::Value(payload(id, takes));
    InvocationRequest { payload: Some(payload), ..call(actor, ADD) }
}

/// The number of a call and how long it takes, from its payload.
pub(crate) fn read(value: &[u8]) -> (CallId, Duration) {
    let (id, takes) = value.split_at(BYTES);
    (CallId(number(id)), Duration::from_millis(number(takes).into()))
}

/// The number of what comes in; `None` for what has no payload.
pub(crate) fn id_of(payload: &Payload) -> Option<CallId> {
    match payload {
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
