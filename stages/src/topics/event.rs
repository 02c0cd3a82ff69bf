//! Event: what is published to a durable topic, as the state of the actor that keeps the topic.

use crate::actor::{ActorId, Definition, Encoding, HostAddress, Kind};
use crate::call::Call;
use crate::invocation::{ActorInvocationResponse, Invocation, Payload};
use crate::outbox::record::Record;
use crate::state::{Any, Revision, Tags, Timestamp};

/// The action that appends an event.
pub(crate) const PUBLISH: &str = "publish";
/// The action that does nothing: the topic is in memory then.
pub(crate) const OPEN: &str = "get";

/// The end of the name under which a topic's state lies. No name of an actor has a control character.
const MARK: &str = "\u{1}topic";
/// The type of an event as a state.
const TYPE: &str = "tidegate/event";

/// The identity of the actor that keeps a topic.
pub(crate) fn key(system: &str, topic: &str) -> ActorId {
    let (system, parent) = (system.to_owned(), String::new());
    ActorId { name: format!("{topic}{MARK}"), system, parent }
}

/// The topic that an actor of this name keeps; `None`: it keeps none.
pub(crate) fn topic_of(name: &str) -> Option<&str> {
    name.strip_suffix(MARK)
}

/// What the actor that keeps a topic is like. It has no host.
pub(crate) fn definition(key: &ActorId) -> Definition {
    Definition {
        id: key.clone(),
        hosts: HostAddress::new("").into(),
        kind: Kind::Named,
        stateful: true,
        snapshot_every: None,
        deactivate_after: None,
        actions: vec![PUBLISH.into()],
        timers: Vec::new(),
        channels: None,
        initial_state: None,
        initial_tags: Tags::new(),
        retired: false,
        encoding: Encoding::Protobuf,
        raw: bytes::Bytes::new(),
    }
}

/// The answer of a topic to a call that publishes: its new state is the event, which goes into the history.
pub(crate) fn published(topic: &str, call: &Call) -> ActorInvocationResponse {
    let invocation = Invocation {
        actor: ActorId { name: topic.to_owned(), ..ActorId::default() },
        payload: call.payload.clone(),
        // The number of the publication is there: no two events are equal.
        metadata: call.metadata.clone(),
        caller: call.caller.clone(),
        traceparent: call.traceparent.clone(),
        ..Invocation::default()
    };
    let record = Record { at: Timestamp::default(), dead: None, invocation };
    let state = Any { type_url: TYPE.into(), value: record.encode() };
    ActorInvocationResponse {
        state: Some(state),
        checkpoint: true,
        payload: Payload::Noop,
        ..ActorInvocationResponse::default()
    }
}

/// Reads the event that a revision of a topic holds: the invocation of subscribers, with the publisher as caller. Returns `None` when
/// the revision holds no event, or a damaged one.
pub(crate) fn read(revision: &Revision) -> Option<Invocation> {
    let state = revision.content.state.as_ref().filter(|state| state.type_url == TYPE)?;
    Record::decode(state.value.clone()).map(|record| record.invocation)
}
