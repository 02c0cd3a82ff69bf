//! Action: the request to a user function and its response.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tidegate_stages::actor::{ActorId, Encoding, HostAddress};
use tidegate_stages::invocation::{
    ActorInvocation, ActorInvocationResponse, Broadcast, Payload, Routing, Workflow,
};
use tidegate_stages::state::Tags;

use super::Malformed;
use super::borrowed::{Empty, Id, Part, Sink, encode, map};
use super::parts::{
    actor_id, answered, broadcast, handed, proto_state, some_state, to_answer, to_broadcast,
};
use super::request::{effect, invocation_request};
use crate::proto::eigr::functions::protocol as wire;
use crate::proto::google::protobuf as well_known;

const RESPONSE: &str = "ActorInvocationResponse";
/// The field that every answer of an action has.
pub(crate) const UPDATED_CONTEXT: &str = "updated_context";

/// What is read of an `ActorInvocationResponse`. The names are compared and not kept.
#[derive(Clone, PartialEq, Message)]
struct AnswerFrame {
    #[prost(bytes = "bytes", tag = "1")]
    actor_name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    actor_system: Bytes,
    #[prost(message, optional, tag = "3")]
    updated_context: Option<ContextFrame>,
    #[prost(oneof = "wire::actor_invocation_response::Payload", tags = "4, 6")]
    payload: Option<wire::actor_invocation_response::Payload>,
    #[prost(message, optional, tag = "5")]
    workflow: Option<wire::Workflow>,
    #[prost(bool, tag = "7")]
    checkpoint: bool,
}

/// What is read of its `Context`.
#[derive(Clone, PartialEq, Message)]
struct ContextFrame {
    #[prost(message, optional, tag = "1")]
    state: Option<well_known::Any>,
    #[prost(btree_map = "string, string", tag = "5")]
    tags: Tags,
}

/// Encodes an `ActorInvocation` into one buffer of the exact size.
pub fn action_request(invocation: &ActorInvocation) -> Bytes {
    encode(&Handed(invocation)).into()
}

/// `ActorInvocation`, as a host is handed it.
struct Handed<'a>(&'a ActorInvocation);

impl Part for Handed<'_> {
    fn write(&self, out: &mut impl Sink) {
        let ActorInvocation { actor, action, caller, payload, .. } = self.0;
        out.message(1, &Id { id: actor, has_parent: true });
        out.blob(2, action.as_bytes());
        out.message(3, &HandedContext(self.0));
        match payload {
            // An empty `Any` is never sent: Node and Go fail on it.
            Payload::Value(any) if !any.is_empty() => out.message(4, any),
            Payload::Value(_) | Payload::Unset => {}
            Payload::Noop => out.message(5, &Empty),
        }
        if let Some(caller) = caller {
            out.message(6, &Id { id: caller, has_parent: true });
        }
    }
}

/// The `Context` in it.
struct HandedContext<'a>(&'a ActorInvocation);

impl Part for HandedContext<'_> {
    fn write(&self, out: &mut impl Sink) {
        let ActorInvocation { actor, state, tags, metadata, caller, self_has_parent, .. } = self.0;
        // Nor an empty `Any` here: several SDKs fail on it.
        if let Some(state) = state.as_ref().filter(|state| !state.is_empty()) {
            out.message(1, state);
        }
        if let Some(caller) = caller {
            out.message(2, &Id { id: caller, has_parent: true });
        }
        out.message(3, &Id { id: actor, has_parent: *self_has_parent });
        map(out, 4, metadata);
        map(out, 5, tags);
    }
}

/// Reads an `ActorInvocation`, as a host does.
///
/// # Errors
/// When the body cannot be decoded, or lacks a field.
pub fn read_action_request(body: Bytes, host: HostAddress) -> Result<ActorInvocation, Malformed> {
    const MESSAGE: &str = "ActorInvocation";
    let missing = |field| Malformed::Missing { message: MESSAGE, field };
    let message = wire::ActorInvocation::decode(body)
        .map_err(|error| Malformed::undecodable(MESSAGE, &error))?;
    let actor: ActorId = actor_id(message.actor.ok_or_else(|| missing("actor"))?);
    let context = message.current_context.ok_or_else(|| missing("current_context"))?;
    let itself = context.self_.ok_or_else(|| missing("current_context.self"))?;
    Ok(ActorInvocation {
        host,
        encoding: Encoding::Protobuf,
        self_has_parent: itself.parent == actor.parent,
        actor: Arc::new(actor),
        action: message.action_name,
        state: some_state(context.state),
        tags: context.tags,
        metadata: context.metadata,
        caller: message.caller.map(actor_id),
        payload: handed(message.payload),
        traceparent: String::new(),
        answer: None,
    })
}

/// Reads an `ActorInvocationResponse`; `asked` is the actor of the request.
///
/// In a success, all SDKs name that actor and its system. In a failure, they name no other actor or system. An empty field names
/// none.
///
/// # Errors
/// When the body cannot be decoded, names another actor or system ([`Malformed::Wrong`]), has no `updated_context`, or has a side
/// effect without a request.
pub fn action_response(body: Bytes, asked: &ActorId) -> Result<ActorInvocationResponse, Malformed> {
    let message =
        AnswerFrame::decode(body).map_err(|error| Malformed::undecodable(RESPONSE, &error))?;
    for (field, named, asked) in [
        ("actor_name", &message.actor_name, &asked.name),
        ("actor_system", &message.actor_system, &asked.system),
    ] {
        if !named.is_empty() && named != asked.as_bytes() {
            return Err(Malformed::wrong(format!("{RESPONSE}.{field}"), "is another one's"));
        }
    }
    let context = message
        .updated_context
        .ok_or(Malformed::Missing { message: RESPONSE, field: UPDATED_CONTEXT })?;
    Ok(ActorInvocationResponse {
        state: some_state(context.state),
        tags: context.tags,
        payload: answered(message.payload),
        workflow: message.workflow.map(workflow).transpose()?.unwrap_or_default(),
        checkpoint: message.checkpoint,
    })
}

/// Reads the payload of an `ActorInvocationResponse` that comes from another system; `None`: the bytes are none of that system.
/// Any bytes may be one by accident. So it names the system; one that names none has a context.
pub fn response_of(body: Bytes, system: &str) -> Option<Payload> {
    let message = wire::ActorInvocationResponse::decode(body).ok()?;
    let is_unnamed = message.actor_system.is_empty() && message.updated_context.is_some();
    let is_response = is_unnamed || message.actor_system == system;
    is_response.then(|| answered(message.payload))
}

/// Encodes an `ActorInvocationResponse` of `actor`, as a host does.
pub fn encode_action_response(actor: ActorId, response: ActorInvocationResponse) -> Bytes {
    let context = wire::Context {
        state: proto_state(response.state),
        tags: response.tags,
        ..wire::Context::default()
    };
    let message = wire::ActorInvocationResponse {
        actor_name: actor.name,
        actor_system: actor.system,
        updated_context: Some(context),
        workflow: Some(proto_workflow(response.workflow)),
        checkpoint: response.checkpoint,
        payload: to_answer(response.payload),
    };
    message.encode_to_vec().into()
}

fn workflow(workflow: wire::Workflow) -> Result<Workflow, Malformed> {
    use wire::workflow::Routing as Oneof;
    let missing = Malformed::Missing { message: RESPONSE, field: "workflow.effects.request" };
    let requests: Option<Vec<_>> = workflow.effects.into_iter().map(|sent| sent.request).collect();
    Ok(Workflow {
        effects: requests.ok_or(missing)?.into_iter().map(effect).collect(),
        broadcast: workflow.broadcast.map(|sent| Broadcast {
            channel: sent.channel_group,
            payload: broadcast(sent.payload),
        }),
        routing: workflow.routing.map(|routing| match routing {
            Oneof::Pipe(pipe) => Routing::Pipe { actor: pipe.actor, action: pipe.action_name },
            Oneof::Forward(to) => Routing::Forward { actor: to.actor, action: to.action_name },
        }),
    })
}

fn proto_workflow(workflow: Workflow) -> wire::Workflow {
    use wire::workflow::Routing as Oneof;
    let effects = workflow.effects.into_iter();
    wire::Workflow {
        effects: effects
            .map(|effect| wire::SideEffect { request: Some(invocation_request(effect)) })
            .collect(),
        broadcast: workflow.broadcast.map(|sent| wire::Broadcast {
            channel_group: sent.channel,
            payload: to_broadcast(sent.payload),
        }),
        routing: workflow.routing.map(|routing| match routing {
            Routing::Pipe { actor, action } => {
                Oneof::Pipe(wire::Pipe { actor, action_name: action })
            }
            Routing::Forward { actor, action } => {
                Oneof::Forward(wire::Forward { actor, action_name: action })
            }
        }),
    }
}
