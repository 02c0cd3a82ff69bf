//! Host: a user function host that only counts. The state is in the context; the host stores nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use prost::Message;

use crate::counter;
use crate::listen::{ListenArgs, serve};
use crate::proto::eigr::functions::protocol::ActorInvocation;

/// The path that a proxy calls for every action.
pub const ACTIONS_PATH: &str = "/api/v1/actors/actions";
/// Path that returns the number of actions since the start, as text.
pub const CALLS_PATH: &str = "/calls";

/// A counter host: every action increments a count; the context carries the state, which changes on every call.
#[derive(Debug, Clone, clap::Args)]
pub struct HostArgs {
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Size of an actor's state, in bytes (at least 16).
    #[arg(long, default_value_t = 256)]
    pub state_bytes: usize,
}

/// Serves until a signal stops the host.
///
/// # Errors
/// When the port cannot be bound.
pub async fn run(args: HostArgs) -> anyhow::Result<()> {
    let calls = Arc::new(AtomicU64::new(0));
    let state_bytes = args.state_bytes;
    let service = service_fn(move |request| {
        let calls = Arc::clone(&calls);
        async move { Ok::<_, Infallible>(answer(request, state_bytes, &calls).await) }
    });
    serve(&args.listen, service).await
}

async fn answer(
    request: Request<Incoming>,
    state_bytes: usize,
    calls: &AtomicU64,
) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::POST, ACTIONS_PATH) => {}
        (&Method::GET, CALLS_PATH) => {
            return text(StatusCode::OK, calls.load(Ordering::Relaxed).to_string());
        }
        (method, path) => {
            return text(StatusCode::NOT_FOUND, format!("no {method} {path} here"));
        }
    }
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return text(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let invocation = match ActorInvocation::decode(body) {
        Ok(invocation) => invocation,
        Err(error) => return text(StatusCode::BAD_REQUEST, error.to_string()),
    };
    calls.fetch_add(1, Ordering::Relaxed);
    match counter::increment(invocation, state_bytes) {
        Ok(answer) => {
            let mut response = Response::new(Full::new(Bytes::from(answer.encode_to_vec())));
            let octets = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(CONTENT_TYPE, octets);
            response
        }
        Err(refused) => text(StatusCode::INTERNAL_SERVER_ERROR, refused.to_string()),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
