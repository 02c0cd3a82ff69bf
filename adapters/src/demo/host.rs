//! Host: the demo's user function, a counter. It keeps no state of its own: each call carries the state.

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

use super::client::{ACTION, COUNT_TYPE, count_in};
use crate::proto::eigr::functions::protocol::{
    ActorInvocation, ActorInvocationResponse, Context, actor_invocation_response,
};
use crate::proto::google::protobuf::Any;

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

/// Runs `increment`: adds one to the count in the call.
async fn run(request: Request<Incoming>) -> anyhow::Result<ActorInvocationResponse> {
    let body = Limited::new(request.into_body(), BODY_LIMIT_BYTES)
        .collect()
        .await
        .map_err(anyhow::Error::from_boxed)?;
    let invocation = ActorInvocation::decode(body.to_bytes()).context("not an ActorInvocation")?;
    anyhow::ensure!(invocation.action_name == ACTION, "this host knows the action {ACTION:?} only");
    let actor = invocation.actor.context("no actor was named")?;
    let context = invocation.current_context.unwrap_or_default();
    let count = count_in(context.state.as_ref())? + 1;
    let state = Any { type_url: COUNT_TYPE.into(), value: count.encode_to_vec().into() };
    Ok(ActorInvocationResponse {
        actor_name: actor.name,
        actor_system: actor.system,
        updated_context: Some(Context { state: Some(state.clone()), ..context }),
        payload: Some(actor_invocation_response::Payload::Value(state)),
        ..ActorInvocationResponse::default()
    })
}
