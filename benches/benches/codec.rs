//! The codec: the cost of a call between bytes and domain types, with prost alone as the reference.
//!
//! A call is four messages, with a state of 256 bytes: the caller's request, the request to the host, its response, and the
//! response to the caller. The reference only decodes and encodes the messages that `prost-build` generates. Both sides of an
//! encoding get a fresh copy of the value. A thousand different calls take turns.
//! `cargo bench -p tidegate-benches -- codec [--quick] [FILTER]`.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tidegate::proto::eigr::functions::protocol::actors::{Actor, ActorSystem};
use tidegate::proto::eigr::functions::protocol::{
    ActorInvocation as WireInvocation, ActorInvocationResponse as WireResponse, Context,
    InvocationRequest, InvocationResponse, RequestStatus, Status, actor_invocation,
    actor_invocation_response, invocation_request, invocation_response,
};
use tidegate::proto::google::protobuf::Any as WireAny;
use tidegate::wire::{self, Echo};
use tidegate_benches::counter::{ACTION, name, state, value, value_in};
use tidegate_benches::harness::{Bench, Case, Unit, case};
use tidegate_benches::options::Options;
use tidegate_stages::actor::{ActorId, Encoding, HostAddress};
use tidegate_stages::invocation::{
    ActorInvocation, ActorInvocationResponse, Invocation, Payload, Workflow,
};
use tidegate_stages::state::{Any, Tags};

const CALLS: usize = 1000;
const SYSTEM: &str = "benches";

pub(crate) fn run(options: &Options) {
    let bench = Bench::new("message", Unit::Nanoseconds, options.clone());
    let calls: Arc<[Call]> = (0..CALLS).map(Call::new).collect();
    calls.iter().for_each(Call::check);
    pair(&bench, &calls, "decode InvocationRequest", prost_request, request);
    pair(&bench, &calls, "encode ActorInvocation", prost_hand, hand);
    pair(&bench, &calls, "decode ActorInvocationResponse", prost_response, response);
    pair(&bench, &calls, "encode InvocationResponse", prost_reply, reply);
    pair(
        &bench,
        &calls,
        "the four of a call",
        |call| prost_request(call) && prost_hand(call) && prost_response(call) && prost_reply(call),
        |call| request(call) && hand(call) && response(call) && reply(call),
    );
}

/// Measures the wire module against prost; each closure returns whether its result is right.
fn pair(
    bench: &Bench,
    calls: &Arc<[Call]>,
    name: &str,
    prost: impl Fn(&Call) -> bool + Copy + Send + 'static,
    tidegate: impl Fn(&Call) -> bool + Copy + Send + 'static,
) {
    bench.group([
        measured(&format!("{name}: reference, prost alone"), calls, prost),
        measured(&format!("{name}: tidegate"), calls, tidegate),
    ]);
}

fn measured(
    name: &str,
    calls: &Arc<[Call]>,
    work: impl Fn(&Call) -> bool + Copy + Send + 'static,
) -> Case {
    let calls = Arc::clone(calls);
    case(name, move |operations| {
        let calls = Arc::clone(&calls);
        async move { all(operations, &calls, work) }
    })
}

fn all(operations: u64, calls: &[Call], work: impl Fn(&Call) -> bool) {
    let mut left = operations;
    for call in calls.iter().cycle() {
        if left == 0 {
            return;
        }
        left -= 1;
        assert!(work(black_box(call)), "{} came out wrong", call.number);
    }
}

fn request(call: &Call) -> bool {
    let called = black_box(wire::invocation(call.request_bytes.clone()).expect("a call"));
    value_in(&called.invocation.payload) == call.number
}

fn prost_request(call: &Call) -> bool {
    let decoded = InvocationRequest::decode(call.request_bytes.clone()).expect("a call");
    let decoded = black_box(decoded);
    let Some(invocation_request::Payload::Value(any)) = decoded.payload else { return false };
    any.value == call.number_bytes
}

fn hand(call: &Call) -> bool {
    black_box(wire::action_request(black_box(&call.handed))).len() == call.handed_len
}

fn prost_hand(call: &Call) -> bool {
    black_box(black_box(&call.prost_handed).encode_to_vec()).len() == call.handed_len
}

fn response(call: &Call) -> bool {
    let answered = wire::action_response(call.response_bytes.clone(), &call.handed.actor);
    let answered = black_box(answered.expect("answered"));
    value_in(&answered.payload) == call.number
}

fn prost_response(call: &Call) -> bool {
    let decoded = WireResponse::decode(call.response_bytes.clone()).expect("answered");
    let decoded = black_box(decoded);
    let Some(actor_invocation_response::Payload::Value(any)) = decoded.payload else {
        return false;
    };
    any.value == call.number_bytes
}

fn reply(call: &Call) -> bool {
    black_box(wire::invoked(black_box(&call.echo), &call.payload)).len() == call.reply_len
}

fn prost_reply(call: &Call) -> bool {
    black_box(black_box(&call.prost_reply).encode_to_vec()).len() == call.reply_len
}

/// One call in all its forms.
struct Call {
    number: u64,
    number_bytes: Bytes,
    invocation: Invocation,
    request_bytes: Bytes,
    handed: ActorInvocation,
    prost_handed: WireInvocation,
    handed_len: usize,
    response: ActorInvocationResponse,
    response_bytes: Bytes,
    echo: Echo,
    payload: Payload,
    prost_reply: InvocationResponse,
    reply_len: usize,
}

impl Call {
    fn new(index: usize) -> Call {
        let number = u64::try_from(index).expect("small");
        let id = ActorId { name: name(number), system: SYSTEM.into(), parent: "counter".into() };
        let payload = Payload::Value(value(number));
        let invocation = Invocation {
            actor: id.clone(),
            action: ACTION.into(),
            payload: payload.clone(),
            ..Invocation::default()
        };
        let handed = ActorInvocation {
            host: HostAddress::new("127.0.0.1:8090"),
            encoding: Encoding::Protobuf,
            actor: Arc::new(id.clone()),
            action: ACTION.into(),
            state: Some(state(number, 1)),
            tags: Tags::new(),
            metadata: invocation.metadata.clone(),
            caller: None,
            self_has_parent: true,
            payload: payload.clone(),
            traceparent: String::new(),
            answer: None,
        };
        let prost_handed = prost_handed(&id, number);
        let response = ActorInvocationResponse {
            state: Some(state(number, 2)),
            payload: payload.clone(),
            workflow: Workflow::default(),
            ..ActorInvocationResponse::default()
        };
        let (system, actor) = echoed(&id);
        let echo =
            Echo { system: system.encode_to_vec().into(), actor: actor.encode_to_vec().into() };
        let prost_reply = InvocationResponse {
            status: Some(RequestStatus { status: Status::Ok.into(), message: String::new() }),
            system: Some(system),
            actor: Some(actor),
            payload: Some(invocation_response::Payload::Value(any(value(number)))),
        };
        Call {
            number,
            number_bytes: value(number).value,
            request_bytes: wire::invocation_request(invocation.clone()).encode_to_vec().into(),
            invocation,
            handed,
            handed_len: prost_handed.encoded_len(),
            prost_handed,
            response_bytes: prost_response_of(&id, number).encode_to_vec().into(),
            response,
            echo,
            payload,
            reply_len: prost_reply.encoded_len(),
            prost_reply,
        }
    }

    /// Checks that both give the same result, byte for byte and field for field.
    fn check(&self) {
        let called = wire::invocation(self.request_bytes.clone()).expect("a call");
        assert_eq!(*called.invocation, self.invocation);
        assert_eq!(called.echo, self.echo);
        assert_eq!(wire::action_request(&self.handed), self.prost_handed.encode_to_vec());
        let answered = wire::action_response(self.response_bytes.clone(), &self.handed.actor);
        assert_eq!(answered.expect("answered"), self.response);
        let reply = wire::invoked(&self.echo, &self.payload);
        assert_eq!(reply, self.prost_reply.encode_to_vec());
    }
}

fn any(any: Any) -> WireAny {
    WireAny { type_url: any.type_url, value: any.value }
}

fn prost_handed(id: &ActorId, number: u64) -> WireInvocation {
    WireInvocation {
        actor: Some(wire::proto_actor_id(id.clone())),
        action_name: ACTION.into(),
        current_context: Some(Context {
            state: Some(any(state(number, 1))),
            self_: Some(wire::proto_actor_id(id.clone())),
            ..Context::default()
        }),
        payload: Some(actor_invocation::Payload::Value(any(value(number)))),
        ..WireInvocation::default()
    }
}

fn prost_response_of(id: &ActorId, number: u64) -> WireResponse {
    WireResponse {
        actor_name: id.name.clone(),
        actor_system: id.system.clone(),
        updated_context: Some(Context { state: Some(any(state(number, 2))), ..Context::default() }),
        payload: Some(actor_invocation_response::Payload::Value(any(value(number)))),
        ..WireResponse::default()
    }
}

fn echoed(id: &ActorId) -> (ActorSystem, Actor) {
    let system = ActorSystem { name: id.system.clone(), registry: None };
    (system, Actor { id: Some(wire::proto_actor_id(id.clone())), ..Actor::default() })
}
