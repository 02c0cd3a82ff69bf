//! Dialect: encodes calls and decodes their responses.
//!
//! A call to a Spawn proxy is an invocation; the proxy keeps the state. A call to the host itself, directly or through the bare
//! proxy, is the callback of a proxy, which carries the state. The load generator computes the state from a counter's name and
//! count.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::RETRY_AFTER;
use hyper::{Method, Request, Response, StatusCode, Uri};
use prost::Message;

use crate::client::{CallError, Client};
use crate::counter::{self, ACTION, EMIT, actor_name, mix};
use crate::host::ACTIONS_PATH;
use crate::ledger::Asked;
use crate::proto::eigr::functions::protocol::actors::ActorId;
use crate::proto::eigr::functions::protocol::{
    ActorInvocation, ActorInvocationResponse, Context, InvocationResponse, Status,
    actor_invocation, actor_invocation_response, invocation_response,
};

/// The protocol of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// A Spawn proxy: registration, then invocations; the proxy keeps the state.
    Invoke,
    /// A host, directly or behind the bare proxy: the callback that a proxy makes, with the state in it.
    Callback,
}

/// The outcome of a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The call returned this count.
    Counted(u64),
    /// Shed correctly: 503, `Retry-After`, a text. The call did not run.
    Shed,
    /// The call failed and certainly did not run.
    NotRun(String),
    /// The call failed and may have run.
    Unknown(String),
    /// The protocol does not allow the response.
    Malformed(String),
}

/// The calls to all actors, encoded in advance as far as possible.
#[derive(Debug)]
pub struct Script {
    dialect: Dialect,
    system: String,
    state_bytes: usize,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    name: String,
    uri: Uri,
    invocation: Bytes,
}

impl Script {
    /// Prepares calls to the first `actors` counters of `system`. With `effects`, each has a side effect to one of as many
    /// further counters; only a proxy can be called so.
    ///
    /// # Errors
    /// When the system's name does not fit into a path.
    pub fn new(
        dialect: Dialect,
        system: &str,
        actors: usize,
        state_bytes: usize,
        effects: bool,
    ) -> Result<Self, hyper::http::uri::InvalidUri> {
        let line = |actor: usize| -> Result<Line, hyper::http::uri::InvalidUri> {
            let name = actor_name(actor);
            let (action, payload) =
                if effects { (EMIT, target(actor, actors)) } else { (ACTION, 1) };
            let invocation = counter::invocation(system, &name, action, counter::value(payload));
            Ok(Line {
                uri: match dialect {
                    Dialect::Invoke => {
                        format!("/api/v1/system/{system}/actors/{name}/invoke").parse()?
                    }
                    Dialect::Callback => Uri::from_static(ACTIONS_PATH),
                },
                invocation: invocation.encode_to_vec().into(),
                name,
            })
        };
        let lines = (0..actors).map(line).collect::<Result<_, _>>()?;
        Ok(Self { dialect, system: system.into(), state_bytes, lines })
    }

    /// The protocol of the target.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Builds the request of a call.
    pub fn request(&self, client: &Client, asked: Asked) -> Request<Full<Bytes>> {
        let line = &self.lines[asked.actor];
        let body = match self.dialect {
            Dialect::Invoke => line.invocation.clone(),
            Dialect::Callback => self.callback(&line.name, asked.before).encode_to_vec().into(),
        };
        client.request(Method::POST, line.uri.clone(), body)
    }

    /// Decodes a response.
    pub fn outcome(&self, asked: Asked, answer: Result<Response<Bytes>, CallError>) -> Outcome {
        let response = match answer {
            Ok(response) => response,
            Err(error @ CallError::Unreachable(..)) => return Outcome::NotRun(error.to_string()),
            Err(error) => return Outcome::Unknown(error.to_string()),
        };
        match self.dialect {
            Dialect::Invoke => self.invoked(asked, response),
            Dialect::Callback => self.called_back(asked, response),
        }
    }

    fn invoked(&self, asked: Asked, response: Response<Bytes>) -> Outcome {
        let (parts, body) = response.into_parts();
        let answer = match InvocationResponse::decode(body) {
            Ok(answer) => answer,
            Err(error) => return Outcome::Malformed(format!("{}: {error}", parts.status)),
        };
        let status = answer.status.unwrap_or_default();
        let text = format!("{}: {:?} {}", parts.status, status.status(), status.message);
        let failed = matches!(status.status(), Status::Error | Status::ActorNotFound)
            && !status.message.is_empty();
        match parts.status {
            StatusCode::OK => {
                let name = answer.actor.and_then(|actor| actor.id).map(|id| id.name);
                let value = match &answer.payload {
                    Some(invocation_response::Payload::Value(any)) => counter::value_in(any),
                    _ => None,
                };
                match value {
                    Some(count)
                        if status.status() == Status::Ok
                            && name.as_ref() == Some(&self.lines[asked.actor].name) =>
                    {
                        Outcome::Counted(count)
                    }
                    _ => Outcome::Malformed(format!("{text}: actor {name:?}, value {value:?}")),
                }
            }
            _ if !failed => Outcome::Malformed(text),
            StatusCode::SERVICE_UNAVAILABLE if parts.headers.contains_key(RETRY_AFTER) => {
                Outcome::Shed
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                Outcome::Malformed(format!("{text}: no Retry-After"))
            }
            code if code.is_client_error() => Outcome::NotRun(text),
            _ => Outcome::Unknown(text),
        }
    }

    fn called_back(&self, asked: Asked, response: Response<Bytes>) -> Outcome {
        let (parts, body) = response.into_parts();
        if parts.status != StatusCode::OK {
            let body = String::from_utf8_lossy(&body);
            return Outcome::Unknown(format!("{}: {body}", parts.status));
        }
        let answer = match ActorInvocationResponse::decode(body) {
            Ok(answer) => answer,
            Err(error) => return Outcome::Malformed(error.to_string()),
        };
        let value = match &answer.payload {
            Some(actor_invocation_response::Payload::Value(any)) => counter::value_in(any),
            _ => None,
        };
        let state = answer.updated_context.and_then(|context| context.state);
        let name = &self.lines[asked.actor].name;
        match (value, state.and_then(|state| counter::count_in(name, &state))) {
            (Some(value), Some(state)) if value == state => Outcome::Counted(value),
            (value, state) => Outcome::Malformed(format!("value {value:?} with state {state:?}")),
        }
    }

    fn callback(&self, name: &str, before: u64) -> ActorInvocation {
        let id = ActorId { name: name.into(), system: self.system.clone(), parent: String::new() };
        let state = (before > 0).then(|| counter::state(name, before, self.state_bytes));
        ActorInvocation {
            actor: Some(id.clone()),
            action_name: ACTION.into(),
            current_context: Some(Context { state, self_: Some(id), ..Context::default() }),
            payload: Some(actor_invocation::Payload::Value(counter::value(1))),
            caller: None,
        }
    }
}

/// The number of the counter that the effects of another one call.
fn target(actor: usize, actors: usize) -> u64 {
    let (actor, actors) = (actor as u64, actors as u64);
    actors + mix(actor) % actors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::proto::eigr::functions::protocol::RequestStatus;
    use crate::proto::eigr::functions::protocol::actors::Actor;

    fn answer(http: u16, status: Status, message: &str, retry_after: bool) -> Outcome {
        let script = Script::new(Dialect::Invoke, "system", 1, 256, false).unwrap();
        let status = RequestStatus { status: status.into(), message: message.into() };
        let id = ActorId { name: actor_name(0), ..ActorId::default() };
        let body = InvocationResponse {
            status: Some(status),
            actor: Some(Actor { id: Some(id), ..Actor::default() }),
            payload: Some(invocation_response::Payload::Value(counter::value(3))),
            ..InvocationResponse::default()
        };
        let mut response = Response::builder().status(http);
        if retry_after {
            response = response.header(RETRY_AFTER, "1");
        }
        let response = response.body(Bytes::from(body.encode_to_vec())).unwrap();
        script.outcome(Ledger::new(1).asks(0), Ok(response))
    }

    #[test]
    fn a_shed_call_says_when_to_come_back_and_why() {
        assert_eq!(answer(503, Status::Error, "full", true), Outcome::Shed);
        assert!(matches!(answer(503, Status::Error, "full", false), Outcome::Malformed(_)));
        assert!(matches!(answer(503, Status::Error, "", true), Outcome::Malformed(_)));
    }

    #[test]
    fn only_an_ok_with_a_value_counts() {
        assert_eq!(answer(200, Status::Ok, "", false), Outcome::Counted(3));
        assert!(matches!(answer(200, Status::Error, "no", false), Outcome::Malformed(_)));
    }

    #[test]
    fn a_host_that_failed_may_have_run_and_a_bad_request_has_not() {
        assert!(matches!(answer(502, Status::Error, "may have run", false), Outcome::Unknown(_)));
        assert!(matches!(answer(404, Status::ActorNotFound, "who", false), Outcome::NotRun(_)));
    }

    #[test]
    fn the_callback_is_no_smaller_than_what_a_proxy_exchanges() {
        let script = Script::new(Dialect::Callback, "system", 1, 256, false).unwrap();
        let callback = script.callback(&actor_name(0), 1).encoded_len();
        assert!(callback > script.lines[0].invocation.len() + 256);
    }
}
