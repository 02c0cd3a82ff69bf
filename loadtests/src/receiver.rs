//! Receiver: takes traces over OTLP with HTTP, counts their bytes and keeps nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

use crate::listen::{ListenArgs, serve};

/// The path of OTLP over HTTP.
const TRACES_PATH: &str = "/v1/traces";
/// Path that returns how many bytes have come since the start, as text.
pub const BYTES_PATH: &str = "/bytes";

/// A receiver of traces over OTLP with HTTP that keeps nothing.
#[derive(Debug, Clone, clap::Args)]
pub struct ReceiverArgs {
    #[command(flatten)]
    pub listen: ListenArgs,
}

/// Serves until a signal stops the receiver.
///
/// # Errors
/// When the port cannot be bound.
pub async fn run(args: ReceiverArgs) -> anyhow::Result<()> {
    let received = Arc::new(AtomicU64::new(0));
    let service = service_fn(move |request| {
        let received = Arc::clone(&received);
        async move { Ok::<_, Infallible>(answer(request, &received).await) }
    });
    serve(&args.listen, service).await
}

async fn answer(request: Request<Incoming>, received: &AtomicU64) -> Response<Full<Bytes>> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, BYTES_PATH) => {
            (StatusCode::OK, received.load(Ordering::Relaxed).to_string())
        }
        (&Method::POST, TRACES_PATH) => match request.into_body().collect().await {
            Ok(body) => {
                let bytes = u64::try_from(body.to_bytes().len()).unwrap_or(u64::MAX);
                received.fetch_add(bytes, Ordering::Relaxed);
                // An empty message: all spans were taken.
                (StatusCode::OK, String::new())
            }
            Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
        },
        (method, path) => (StatusCode::NOT_FOUND, format!("no {method} {path} here")),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
