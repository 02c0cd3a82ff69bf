//! JSON: reads bodies in the form that their head names, and writes answers in the form that it asks for.

use bytes::Bytes;
use http::HeaderMap;
use tidegate_stages::actor::HostAddress;
use tidegate_stages::invocation::{Broadcast, Payload, Registration, Spawn};
use tidegate_stages::state::ActorState;

use super::accept;
use super::http::{Answer, JSON, Refusal, octets, of_type};
use crate::wire::json::Types;
use crate::wire::{self, Called, Echo, Form};

/// Describes the requests in JSON, for `/openapi.json`: all but the pages of a backup.
pub(super) const OPENAPI: Bytes = Bytes::from_static(include_bytes!("json/openapi.json"));

fn is_json(headers: &HeaderMap) -> bool {
    accept::content_form(headers) == Some(Form::Json)
}

/// Reads a call. In JSON, the path names its actor `(system, name)`; these names were checked.
pub(super) fn called(
    form: Form,
    body: Bytes,
    actor: (&str, &str),
    types: &Types,
) -> Result<Called, Refusal> {
    if form == Form::Protobuf {
        return Ok(wire::invocation(body)?);
    }
    let invocation = wire::json::invocation(&body, actor, types)?.into();
    Ok(Called { invocation, echo: Echo::default() })
}

/// Reads a registration of the host at `host`.
pub(super) fn registration(
    headers: &HeaderMap,
    body: Bytes,
    host: &HostAddress,
    max_actors: usize,
) -> Result<Registration, Refusal> {
    Ok(if is_json(headers) {
        wire::json::registration(&body, host, max_actors)?
    } else {
        wire::registration(body, host, max_actors)?
    })
}

/// Reads a spawn. In JSON, the path names the system.
pub(super) fn spawn(
    headers: &HeaderMap,
    body: Bytes,
    (system, revision): (&str, Option<u64>),
    max_actors: usize,
) -> Result<Spawn, Refusal> {
    Ok(if is_json(headers) {
        wire::json::spawn(&body, system, revision, max_actors)?
    } else {
        wire::spawn(body, revision, max_actors)?
    })
}

/// Reads what a client publishes to a topic.
pub(super) fn publication(
    headers: &HeaderMap,
    body: Bytes,
    topic: &str,
    types: &Types,
) -> Result<Broadcast, Refusal> {
    Ok(if is_json(headers) {
        wire::json::publication(&body, topic, types)?
    } else {
        wire::publication(body, topic)?
    })
}

/// The answer of a call that succeeded.
pub(super) fn invoked(form: Form, echo: &Echo, payload: &Payload, types: &Types) -> Answer {
    match form {
        Form::Protobuf => octets(wire::invoked(echo, payload)),
        Form::Json => of_type(JSON, wire::json::invoked(payload, types)),
    }
}

/// The answer with a state.
pub(super) fn state(headers: &HeaderMap, state: ActorState, types: &Types) -> Answer {
    match accept::form_of_answer(headers) {
        Form::Protobuf => octets(wire::state(state)),
        Form::Json => of_type(JSON, wire::json::state(&state, types)),
    }
}

/// The answer of a request that was carried out and has nothing else to tell.
pub(super) fn done(headers: &HeaderMap, message: fn() -> Bytes) -> Answer {
    match accept::form_of_answer(headers) {
        Form::Protobuf => octets(message()),
        Form::Json => of_type(JSON, wire::json::ok()),
    }
}
