//! Faulty proxy: makes, on command, the mistakes that the generator must find. It tests the load tests themselves; its speed
//! means nothing, because it counts in memory and calls no host.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use parking_lot::Mutex;
use prost::Message;

use crate::counter;
use crate::listen::{ListenArgs, serve};
use crate::proto::eigr::functions::protocol::{
    InvocationRequest, InvocationResponse, RegistrationResponse, RequestStatus, Status,
    invocation_response,
};

/// Number of calls between two faults. Large enough that every actor has returned a count before the first fault.
const EVERY: u64 = 100;

/// The kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// No fault.
    None,
    /// An acknowledged change is lost, as after a crash without sync.
    Forgets,
    /// A call runs twice, as after a wrong retry.
    Repeats,
    /// Calls are shed correctly.
    Sheds,
    /// Calls are shed without `Retry-After`.
    ShedsSilently,
    /// Calls fail, and it is unknown whether they ran.
    Fails,
}

/// A proxy that makes mistakes on command; for the load tests' own tests.
#[derive(Debug, Clone, clap::Args)]
pub struct FaultyProxyArgs {
    #[command(flatten)]
    pub listen: ListenArgs,
    /// The fault, once every 100 calls.
    #[arg(long, value_enum, default_value = "none")]
    pub fault: Fault,
    /// Ignored; makes the command line compatible with `tidegate serve`.
    #[arg(hide = true)]
    pub command: Option<String>,
}

#[derive(Debug, Default)]
struct Counters {
    calls: u64,
    counts: HashMap<String, u64>,
}

/// Serves until a signal stops the proxy.
///
/// # Errors
/// When the port cannot be bound.
pub async fn run(args: FaultyProxyArgs) -> anyhow::Result<()> {
    let counters = Arc::new(Mutex::new(Counters::default()));
    let fault = args.fault;
    let service = service_fn(move |request: Request<Incoming>| {
        let counters = Arc::clone(&counters);
        async move {
            let registers = request.uri().path() == "/api/v1/system";
            let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
            Ok::<_, Infallible>(match body {
                Ok(_) if registers => registered(),
                Ok(body) => invoked(body, fault, &mut counters.lock()),
                Err(error) => failed(StatusCode::BAD_REQUEST, &error.to_string()),
            })
        }
    });
    serve(&args.listen, service).await
}

fn registered() -> Response<Full<Bytes>> {
    let status = Some(RequestStatus { status: Status::Ok.into(), message: "Accepted".into() });
    let answer = RegistrationResponse { status, proxy_info: None };
    Response::new(Full::new(answer.encode_to_vec().into()))
}

fn invoked(body: Bytes, fault: Fault, counters: &mut Counters) -> Response<Full<Bytes>> {
    let request = match InvocationRequest::decode(body) {
        Ok(request) => request,
        Err(error) => return failed(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let Some(id) = request.actor.as_ref().and_then(|actor| actor.id.as_ref()) else {
        return failed(StatusCode::BAD_REQUEST, "actor.id is missing");
    };
    counters.calls += 1;
    let now = counters.calls.is_multiple_of(EVERY);
    let count = counters.counts.entry(id.name.clone()).or_default();
    match fault {
        Fault::Sheds if now => {
            let mut response = failed(StatusCode::SERVICE_UNAVAILABLE, "full");
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return response;
        }
        Fault::ShedsSilently if now => return failed(StatusCode::SERVICE_UNAVAILABLE, "full"),
        Fault::Fails if now => {
            *count += 1;
            return failed(StatusCode::BAD_GATEWAY, "the host may have run the action");
        }
        Fault::Forgets if now => *count = count.saturating_sub(1),
        Fault::Repeats if now => *count += 1,
        _ => {}
    }
    *count += 1;
    let answer = InvocationResponse {
        status: Some(RequestStatus { status: Status::Ok.into(), message: String::new() }),
        payload: Some(invocation_response::Payload::Value(counter::value(*count))),
        system: request.system,
        actor: request.actor,
    };
    Response::new(Full::new(answer.encode_to_vec().into()))
}

fn failed(http: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let status = Some(RequestStatus { status: Status::Error.into(), message: message.into() });
    let answer = InvocationResponse { status, ..InvocationResponse::default() };
    let mut response = Response::new(Full::new(answer.encode_to_vec().into()));
    *response.status_mut() = http;
    response
}
