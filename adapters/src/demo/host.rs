//! Host: the demo's user function, for all its [actors](super::cast). It keeps no state of its own: each call carries the
//! state.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::Ipv4Addr;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::cast::{CRIER, INCREMENT, NOTE, SYSTEM, TICK, TOPIC, count, count_in, id, ledger_of};
use super::notes::Notes;
use crate::proto::eigr::functions::protocol::actors::{Actor, ActorSystem};
use crate::proto::eigr::functions::protocol::{
    ActorInvocation, ActorInvocationResponse, Broadcast, Context, InvocationRequest, SideEffect,
    Workflow, actor_invocation, actor_invocation_response, broadcast, invocation_request,
};

/// Concurrent connections; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 512;
/// Largest request body, in bytes.
const BODY_LIMIT_BYTES: usize = 64 * 1_024;

/// Listens on a free port, prints the address, and serves until killed.
pub(super) async fn serve() -> anyhow::Result<()> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port on 127.0.0.1")?;
    writeln!(std::io::stdout(), "listening on http://{}", listener.local_addr()?)?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => {
                let (socket, _) = accepted.context("the host lost its listener")?;
                socket.set_nodelay(true)?;
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service_fn(answer)));
            }
            Some(ended) = connections.join_next() => {
                // A killed proxy breaks its connections; this is expected and only logged.
                if let Ok(Err(error)) = ended {
                    tracing::debug!(%error, "connection ended");
                }
            }
        }
    }
}

/// Serves the one kind of call that a proxy makes; for any other request the status says what is wrong.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) =
        if request.method() != Method::POST || request.uri().path() != "/api/v1/actors/actions" {
            (StatusCode::NOT_FOUND, Bytes::new())
        } else {
            match run(request).await {
                Ok(response) => (StatusCode::OK, response.encode_to_vec().into()),
                Err(error) => (StatusCode::BAD_REQUEST, format!("{error:#}").into()),
            }
        };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    Ok(response)
}

/// Runs the action that the call names.
async fn run(request: Request<Incoming>) -> anyhow::Result<ActorInvocationResponse> {
    let body = Limited::new(request.into_body(), BODY_LIMIT_BYTES)
        .collect()
        .await
        .map_err(anyhow::Error::from_boxed)?;
    let invocation = ActorInvocation::decode(body.to_bytes()).context("not an ActorInvocation")?;
    let actor = invocation.actor.context("no actor was named")?;
    let context = invocation.current_context.unwrap_or_default();
    let state = context.state.as_ref();
    let mut workflow = None;
    let state = match &*invocation.action_name {
        INCREMENT => {
            let new = count_in(state)? + 1;
            workflow = Some(send_on(&actor.name, new));
            count(new)
        }
        TICK => count(count_in(state)? + 1),
        NOTE => {
            let sent = match &invocation.payload {
                Some(actor_invocation::Payload::Value(sent)) => Some(sent),
                _ => None,
            };
            let mut notes = Notes::of(state)?;
            notes.note(count_in(sent)?);
            notes.to_state()
        }
        other => anyhow::bail!("this host does not know the action {other:?}"),
    };
    Ok(ActorInvocationResponse {
        actor_name: actor.name,
        actor_system: actor.system,
        updated_context: Some(Context { state: Some(state.clone()), ..context }),
        payload: Some(actor_invocation_response::Payload::Value(state)),
        workflow,
        ..ActorInvocationResponse::default()
    })
}

/// Returns the effect that brings a count to the counter's ledger, and the crier's broadcast.
fn send_on(counter: &str, new: u64) -> Workflow {
    let request = InvocationRequest {
        system: Some(ActorSystem { name: SYSTEM.into(), registry: None }),
        actor: Some(Actor { id: Some(id(&ledger_of(counter))), ..Actor::default() }),
        action_name: NOTE.into(),
        payload: Some(invocation_request::Payload::Value(count(new))),
        ..InvocationRequest::default()
    };
    let broadcast = (counter == CRIER).then(|| Broadcast {
        channel_group: TOPIC.into(),
        payload: Some(broadcast::Payload::Value(count(new))),
    });
    Workflow {
        effects: vec![SideEffect { request: Some(request) }],
        broadcast,
        ..Workflow::default()
    }
}
