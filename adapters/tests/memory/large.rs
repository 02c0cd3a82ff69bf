//! A host whose answers are large, and the calls to it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use prost::Message;

use super::support::counter::{SYSTEM, definition};
use super::support::host::{Answer, Call, Script};
use super::support::proto::{
    Action, Actor, ActorId, ActorInvocation, ActorInvocationResponse, ActorSystem, Any, Context,
    InvocationRequest, Kind, actor_invocation_response,
};

/// Actors beside the named ones.
pub(crate) const MANY: usize = 256;

/// The action that answers a few bytes and leaves the state as it is.
pub(crate) const SMALL: &str = "small";
/// The action that makes a state of almost 4 MiB and answers a few bytes.
pub(crate) const LARGE: &str = "large";
/// The action that answers almost 16 MiB and leaves the state as it is.
pub(crate) const HUGE: &str = "huge";

const LARGE_BYTES: usize = (4 << 20) - 4_096;
const HUGE_BYTES: usize = (16 << 20) - 4_096;

/// The host.
pub(crate) struct Large;

impl Script for Large {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            let invocation = ActorInvocation::decode(call.body).unwrap();
            let (id, before) = (invocation.actor.unwrap(), invocation.current_context.unwrap());
            let (answered, state) = match invocation.action_name.as_str() {
                LARGE => (16, Some(any(LARGE_BYTES))),
                HUGE => (HUGE_BYTES, before.state),
                _ => (16, before.state),
            };
            Some(Answer::message(&ActorInvocationResponse {
                actor_name: id.name,
                actor_system: id.system,
                payload: Some(actor_invocation_response::Payload::Value(any(answered))),
                updated_context: Some(Context { state, ..Context::default() }),
                ..ActorInvocationResponse::default()
            }))
        })
    }
}

fn any(bytes: usize) -> Any {
    let type_url = "type.googleapis.com/tidegate.test.Bytes".into();
    Any { type_url, value: vec![7; bytes].into() }
}

/// The name of one of the many.
pub(crate) fn name(number: usize) -> String {
    format!("many-{number}")
}

/// A definition with all three actions.
pub(crate) fn large_actor(name: &str) -> Actor {
    let actions = [SMALL, LARGE, HUGE].map(|name| Action { name: name.into() });
    Actor { actions: actions.into(), ..definition(name, Kind::Named) }
}

/// A call.
pub(crate) fn call(actor: &str, action: &str) -> InvocationRequest {
    let id = ActorId { name: actor.into(), system: SYSTEM.into(), parent: String::new() };
    InvocationRequest {
        system: Some(ActorSystem { name: SYSTEM.into(), registry: None }),
        actor: Some(Actor { id: Some(id), ..Actor::default() }),
        action_name: action.into(),
        ..InvocationRequest::default()
    }
}
