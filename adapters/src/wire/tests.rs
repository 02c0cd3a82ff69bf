//! Round trips, golden bytes and lenient decoding.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use prost::Message;
use tidegate_stages::actor::{ActorId, Encoding, HostAddress, Kind};
use tidegate_stages::invocation::{
    ActorInvocation, ActorInvocationResponse, Broadcast, Invocation, Payload, Routing, Workflow,
};
use tidegate_stages::state::Any;

use super::*;
use crate::proto::eigr::functions::protocol as proto;

fn host() -> HostAddress {
    HostAddress::new("127.0.0.1:8090")
}

fn hex(text: &str) -> Bytes {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// Encodes a length-delimited field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn id() -> impl Strategy<Value = ActorId> {
    ("[a-zü/]{0,6}", "[a-z]{1,4}", "[a-z]{0,4}").prop_map(|(name, system, parent)| ActorId {
        name,
        system,
        parent,
    })
}

fn any() -> impl Strategy<Value = Any> {
    ("[a-z./]{1,8}", vec(proptest::num::u8::ANY, 0..40))
        .prop_map(|(type_url, value)| Any { type_url, value: value.into() })
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![Just(Payload::Unset), Just(Payload::Noop), any().prop_map(Payload::Value)]
}

fn text() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    btree_map("[a-z-]{0,5}", "[a-z0-9 ]{0,5}", 0..3)
}

fn call() -> impl Strategy<Value = Invocation> {
    let flags = (proptest::bool::ANY, proptest::bool::ANY, proptest::num::i64::ANY);
    (id(), "[a-z]{0,5}", payload(), text(), option::of(id()), "[a-z]{0,3}", flags).prop_map(
        |(actor, action, payload, metadata, caller, register_ref, flags)| Invocation {
            actor,
            action,
            payload,
            metadata,
            caller,
            asynchronous: flags.0,
            register_ref,
            scheduled_to: flags.2,
            pooled: flags.1,
            ..Invocation::default()
        },
    )
}

fn workflow() -> impl Strategy<Value = Workflow> {
    let broadcast =
        ("[a-z]{0,4}", payload()).prop_map(|(channel, payload)| Broadcast { channel, payload });
    let routing =
        (proptest::bool::ANY, "[a-z]{0,4}", "[a-z]{0,4}").prop_map(|(pipe, actor, action)| {
            if pipe { Routing::Pipe { actor, action } } else { Routing::Forward { actor, action } }
        });
    (vec(call(), 0..3), option::of(broadcast), option::of(routing))
        .prop_map(|(effects, broadcast, routing)| Workflow { effects, broadcast, routing })
}

proptest! {
    #[test]
    fn an_invocation_survives_the_wire(call in call()) {
        let bytes = Bytes::from(invocation_request(call.clone()).encode_to_vec());
        prop_assert_eq!(*invocation(bytes).unwrap().invocation, call);
    }

    #[test]
    fn what_a_host_is_handed_survives_the_wire(
        actor in id(), action in "[a-z]{0,5}", state in option::of(any()), tags in text(),
        metadata in text(), caller in option::of(id()), payload in payload(), has_parent in proptest::bool::ANY,
    ) {
        // Without a parent, `self` is the same in both cases.
        let self_has_parent = has_parent || actor.parent.is_empty();
        let handed = ActorInvocation {
            host: host(), encoding: Encoding::Protobuf, actor: Arc::new(actor), action, state, tags, metadata, caller, self_has_parent, payload,
            traceparent: String::new(),
            answer: None,
        };
        let bytes = action_request(&handed);
        let message = proto::ActorInvocation::decode(bytes.clone()).unwrap();
        prop_assert_eq!(&message.encode_to_vec(), &bytes, "as the generated message encodes it");
        let read = read_action_request(bytes, host()).unwrap();
        prop_assert_eq!(format!("{read:?}"), format!("{handed:?}"));
    }

    #[test]
    fn a_reply_is_encoded_as_the_generated_message_is(system in "[a-z]{0,4}", id in id(), payload in payload()) {
        let system = proto::actors::ActorSystem { name: system, registry: None };
        let actor = proto::actors::Actor { id: Some(proto_actor_id(id)), ..Default::default() };
        let echo = Echo { system: system.encode_to_vec().into(), actor: actor.encode_to_vec().into() };
        let bytes = invoked(&echo, &payload);
        let message = proto::InvocationResponse::decode(bytes.clone()).unwrap();
        prop_assert_eq!(&message.encode_to_vec(), &bytes);
        prop_assert_eq!(message.status.map(|status| status.status()), Some(proto::Status::Ok));
        prop_assert_eq!((message.system, message.actor), (Some(system), Some(actor)));
        let (value, noop) = match message.payload {
            Some(proto::invocation_response::Payload::Value(any)) => (Some((any.type_url, any.value)), false),
            Some(proto::invocation_response::Payload::Noop(_)) => (None, true),
            None => (None, false),
        };
        prop_assert_eq!(noop, payload == Payload::Noop);
        let sent = if let Payload::Value(any) = payload { Some((any.type_url, any.value)) } else { None };
        prop_assert_eq!(value, sent);
    }

    #[test]
    fn what_a_host_answers_survives_the_wire(
        state in option::of(any()), tags in text(), payload in payload(), workflow in workflow(),
        checkpoint in proptest::bool::ANY,
    ) {
        let response = ActorInvocationResponse { state, tags, payload, workflow, checkpoint };
        let bytes = encode_action_response(ActorId::default(), response.clone());
        prop_assert_eq!(action_response(bytes, &ActorId::default()).unwrap(), response);
    }

    #[test]
    fn no_bytes_panic_the_decoders(bytes in vec(proptest::num::u8::ANY, 0..200)) {
        let bytes = Bytes::from(bytes);
        drop(invocation(bytes.clone()));
        drop(registration(bytes.clone(), &host(), 1_000));
        drop(spawn(bytes.clone(), None, 1_000));
        drop(action_response(bytes, &ActorId::default()));
    }
}

/// A recorded call of the Go SDK.
#[test]
fn a_recorded_call_is_read_as_it_was_meant_and_echoed_byte_for_byte() {
    let system = hex("0a0c737061776e2d73797374656d");
    let actor = hex("0a1e0a0e636f756e7465722d7265632d676f120c737061776e2d73797374656d");
    let body = [field(1, &system), field(2, &actor), field(3, b"Add")].concat();
    let called = invocation(body.into()).unwrap();
    assert_eq!(called.invocation.actor.to_string(), "spawn-system/counter-rec-go");
    assert_eq!(called.invocation.action, "Add");
    assert_eq!(called.echo, Echo { system: system.clone(), actor: actor.clone() });
    let answer = invoked(&called.echo, &Payload::Noop);
    let expected = [&hex("0a020801120e")[..], &system, &hex("1a20"), &actor, &hex("2a00")].concat();
    assert_eq!(answer, expected);
}

#[test]
fn the_system_of_a_call_is_named_by_the_system_or_by_the_actor_and_never_twice_differently() {
    let called = |system: &[u8], actors: &[u8]| {
        let id = [field(1, b"joe"), field(2, actors)].concat();
        let actor = field(2, &field(1, &id));
        invocation([field(1, &field(1, system)), actor].concat().into())
    };
    let system = |called: Result<Called, Malformed>| called.unwrap().invocation.actor.system;
    assert_eq!(system(called(b"s", b"")), "s");
    assert_eq!(system(called(b"", b"s")), "s");
    assert_eq!(system(called(b"s", b"s")), "s");
    assert!(matches!(called(b"s", b"t"), Err(Malformed::Wrong { .. })));
    for (system, actors) in [(&b"\xff"[..], &b""[..]), (b"\xff", b"s"), (b"s", b"\xff")] {
        assert!(matches!(called(system, actors), Err(Malformed::Undecodable { .. })));
    }
}

#[test]
fn an_empty_any_is_never_handed_to_a_host() {
    let handed = ActorInvocation {
        host: host(),
        encoding: Encoding::Protobuf,
        actor: Arc::new(ActorId { name: "a".into(), system: "s".into(), parent: String::new() }),
        action: "act".into(),
        state: Some(Any::default()),
        tags: [].into(),
        metadata: [].into(),
        caller: None,
        self_has_parent: true,
        payload: Payload::Value(Any::default()),
        traceparent: String::new(),
        answer: None,
    };
    // actor { name, system }, action_name, current_context { self { name, system } }: nothing else.
    assert_eq!(action_request(&handed), hex("0a060a016112017312036163741a081a060a0161120173"));
}

#[test]
fn a_type_url_without_bytes_is_a_state() {
    let state = Any { type_url: "type.googleapis.com/x.Empty".into(), value: Bytes::new() };
    let response = ActorInvocationResponse { state: Some(state.clone()), ..Default::default() };
    let bytes = encode_action_response(ActorId::default(), response);
    assert_eq!(action_response(bytes, &ActorId::default()).unwrap().state, Some(state));
}

#[test]
fn an_answer_without_context_is_refused() {
    let bytes = proto::ActorInvocationResponse { actor_name: "a".into(), ..Default::default() };
    let asked = ActorId { name: "a".into(), ..ActorId::default() };
    let error = action_response(bytes.encode_to_vec().into(), &asked).unwrap_err();
    assert_eq!(error.to_string(), "ActorInvocationResponse.updated_context is missing");
}

#[test]
fn an_answer_with_a_side_effect_that_asks_for_nothing_is_refused() {
    let effects = vec![proto::SideEffect { request: None }];
    let bytes = proto::ActorInvocationResponse {
        updated_context: Some(proto::Context::default()),
        workflow: Some(proto::Workflow { effects, ..Default::default() }),
        ..Default::default()
    };
    let bytes = bytes.encode_to_vec().into();
    let error = action_response(bytes, &ActorId::default()).unwrap_err();
    assert_eq!(error.to_string(), "ActorInvocationResponse.workflow.effects.request is missing");
}

#[test]
fn a_missing_part_is_named() {
    let named = |request: proto::InvocationRequest| {
        invocation(request.encode_to_vec().into()).unwrap_err().to_string()
    };
    let system = Some(proto::actors::ActorSystem { name: "s".into(), registry: None });
    assert_eq!(named(proto::InvocationRequest::default()), "InvocationRequest.system is missing");
    let mut request = proto::InvocationRequest { system, ..Default::default() };
    assert_eq!(named(request.clone()), "InvocationRequest.actor is missing");
    request.actor = Some(proto::actors::Actor::default());
    assert_eq!(named(request), "InvocationRequest.actor.id is missing");
}

fn actor() -> proto::actors::Actor {
    proto::actors::Actor {
        id: Some(proto::actors::ActorId {
            name: "a".into(),
            system: "s".into(),
            parent: String::new(),
        }),
        settings: Some(proto::actors::ActorSettings { stateful: true, ..Default::default() }),
        ..Default::default()
    }
}

fn defined(actor: &proto::actors::Actor) -> Result<tidegate_stages::actor::Definition, String> {
    definition(actor.encode_to_vec().into(), host().into(), "s")
}

#[test]
fn a_channel_may_be_a_message_or_a_bare_string() {
    let message = proto::actors::Channel { topic: "news".into(), action: "read".into() };
    let bare = proto::actors::Channel { topic: "bare".into(), action: String::new() };
    // As the Node SDK sends an empty text.
    let empty = proto::actors::Channel { topic: String::new(), action: "receive".into() };
    // "abcdefghi" also parses as a message: field 12, eight bytes, unknown.
    let texts = [Bytes::from("orders"), Bytes::from("abcdefghi"), Bytes::new()];
    let messages = [message, empty, bare].map(|message| Bytes::from(message.encode_to_vec()));
    let groups = messages.into_iter().chain(texts);
    let mut actor = actor();
    actor.metadata =
        Some(proto::actors::Metadata { channel_group: groups.collect(), ..Default::default() });
    let defined = defined(&actor).unwrap();
    assert_eq!(
        defined.bindings().collect::<Vec<_>>(),
        [("news", "read"), ("bare", "receive"), ("orders", "receive"), ("abcdefghi", "receive")]
    );
}

#[test]
fn unknown_kinds_survive() {
    for (number, kind) in [
        (0, Kind::Named),
        (1, Kind::Named),
        (2, Kind::Unnamed),
        (3, Kind::Pooled { min: 2, max: 0 }),
        (4, Kind::Proxy),
        (5, Kind::Task),
        (6, Kind::Other(6)),
        (-9, Kind::Other(-9)),
    ] {
        let mut actor = actor();
        let settings = actor.settings.as_mut().unwrap();
        (settings.kind, settings.stateful) = (number, true);
        (settings.min_pool_size, settings.max_pool_size) = (2, -1);
        let defined = defined(&actor).unwrap();
        assert_eq!((defined.kind, defined.stateful), (kind, number != 3));
    }
}

#[test]
fn settings_of_later_protocols_are_skipped_whatever_their_shape() {
    // ActorSettings 7 as a varint, as a message and as text; 8 as text.
    for later in ["3801", "3a020a00", "3a0161", "42036f6e65"] {
        let raw = [field(1, &field(1, b"a")), field(3, &hex(later))].concat();
        let definition = definition(raw.clone().into(), host().into(), "s").unwrap();
        assert_eq!(definition.raw, raw, "kept byte for byte");
    }
}

#[test]
fn a_strategy_without_time_means_the_default_and_an_absent_one_means_never() {
    let mut actor = actor();
    assert_eq!(defined(&actor).unwrap().deactivate_after, None);
    let settings = actor.settings.as_mut().unwrap();
    settings.deactivation_strategy = Some(proto::actors::ActorDeactivationStrategy::default());
    settings.snapshot_strategy = Some(proto::actors::ActorSnapshotStrategy {
        strategy: Some(proto::actors::actor_snapshot_strategy::Strategy::Timeout(
            proto::actors::TimeoutStrategy { timeout: 0 },
        )),
    });
    let definition = defined(&actor).unwrap();
    assert_eq!(definition.deactivate_after, Some(Duration::from_secs(10)));
    assert_eq!(definition.snapshot_every, Some(Duration::from_secs(2)));
}

#[test]
fn an_actor_without_settings_is_named_in_the_refusal() {
    let registry = proto::actors::Registry {
        actors: [("joe".to_owned(), proto::actors::Actor { settings: None, ..actor() })].into(),
    };
    let request = proto::RegistrationRequest {
        service_info: Some(proto::ServiceInfo::default()),
        actor_system: Some(proto::actors::ActorSystem {
            name: "s".into(),
            registry: Some(registry),
        }),
    };
    let error = registration(request.encode_to_vec().into(), &host(), 1_000).unwrap_err();
    assert_eq!(error.to_string(), "actor_system.registry.actors[\"joe\"] lacks settings");
}

#[test]
fn a_registered_actor_is_kept_byte_for_byte_and_read_again_from_its_bytes() {
    let mut actor = actor();
    actor.id.as_mut().unwrap().system.clear();
    let mut raw = actor.encode_to_vec();
    raw.extend_from_slice(&hex("c23e0568656c6c6f")); // field 1000, unknown to this version
    let entry = [field(1, b"a"), field(2, &raw)].concat();
    let system = [field(1, b"s"), field(2, &field(1, &entry))].concat();
    let request = [field(1, b""), field(2, &system)].concat();
    let registration = registration(request.into(), &host(), 1_000).unwrap();
    assert_eq!(registration.definitions.len(), 1);
    let read = &registration.definitions[0];
    assert_eq!(read.raw, raw);
    assert_eq!(read.id.system, "s", "an actor without system lives in the announced one");
    assert_eq!(definition(read.raw.clone(), host().into(), "s").unwrap(), *read);
}

#[test]
fn the_action_name_that_old_sdks_put_in_a_broadcast_is_skipped() {
    // workflow { broadcast { channel_group "c", 2: "x", noop } }, updated_context {}
    let bytes = hex("1a002a0a12080a01631201782200");
    let response = action_response(bytes, &ActorId::default()).unwrap();
    let expected = Broadcast { channel: "c".into(), payload: Payload::Noop };
    assert_eq!(response.workflow.broadcast, Some(expected));
}
