//! A counter in Rust, served to Tidegate over HTTP and protobuf. Needs nothing of Tidegate but its messages.
//!
//! ```text
//! cargo run --release -- serve                      the proxy, on port 9001
//! cargo run --example counter_host                  this host: listens, registers the actor `counter`, serves
//! cargo run --example counter_host -- invoke        calls `increment` once and prints the count
//! ```
//!
//! Stop the host or the proxy and start it again: the count goes on, for it is kept by the proxy and comes with
//! every call. `PROXY_HTTP_PORT` (9001) and `USER_FUNCTION_PORT` (8090; 0: any) say where the two listen.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program on one page, in a user's place"
)]

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, client, server};
use hyper_util::rt::TokioIo;
use prost::Message;
use tidegate::proto::eigr::functions::protocol::actors::{
    Action, Actor, ActorId, ActorSettings, ActorState, ActorSystem, Kind, Registry,
};
use tidegate::proto::eigr::functions::protocol::{
    ActorInvocation, ActorInvocationResponse, Context, InvocationRequest, InvocationResponse, Noop,
    RegistrationRequest, ServiceInfo, actor_invocation_response, invocation_request,
    invocation_response,
};
use tidegate::proto::google::protobuf::Any;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const SYSTEM: &str = "spawn-system";
const ACTOR: &str = "counter";
const COUNT_TYPE: &str = "type.googleapis.com/google.protobuf.Int64Value";

#[tokio::main]
async fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("invoke") {
        println!("{ACTOR} is {}", invoke().await?);
        return Ok(());
    }
    let listener = TcpListener::bind(("127.0.0.1", port("USER_FUNCTION_PORT", 8090)?)).await?;
    let here = format!("http://{}", listener.local_addr()?);
    // It serves while it registers: the proxy may call before it answers.
    tokio::try_join!(serve(listener), register_when_the_proxy_is_there(here)).map(drop)
}

/// The action: `ActorInvocation` in, `ActorInvocationResponse` out. The state is an `Any` with an `Int64Value`,
/// which is how prost encodes a bare `i64`.
fn increment(context: Context) -> Result<ActorInvocationResponse> {
    let count = context.state.as_ref().map_or(Ok(0), |state| i64::decode(state.value.clone()))? + 1;
    let state = Any { type_url: COUNT_TYPE.into(), value: count.encode_to_vec().into() };
    Ok(ActorInvocationResponse {
        actor_name: ACTOR.into(),
        actor_system: SYSTEM.into(),
        updated_context: Some(Context { state: Some(state.clone()), ..context }),
        payload: Some(actor_invocation_response::Payload::Value(state)),
        ..Default::default()
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let invocation = ActorInvocation::decode(request.into_body().collect().await?.to_bytes())?;
    let context = invocation.current_context.unwrap_or_default();
    let (status, body) = match &*invocation.action_name {
        "increment" => (StatusCode::OK, increment(context)?.encode_to_vec()),
        unknown => (StatusCode::BAD_REQUEST, format!("no action {unknown}").into_bytes()),
    };
    Ok(Response::builder().status(status).body(Full::new(body.into()))?)
}

async fn serve(listener: TcpListener) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < 1_000 => {
                let http = server::conn::http1::Builder::new();
                connections.spawn(http.serve_connection(TokioIo::new(accepted?.0), service_fn(answer)));
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
}

async fn register_when_the_proxy_is_there(here: String) -> Result<()> {
    for _ in 0..60 {
        let Err(error) = register(&here).await else {
            println!("registered `{ACTOR}`; serving on {here}");
            return Ok(());
        };
        if !error.is::<std::io::Error>() {
            return Err(error);
        }
        eprintln!("no proxy yet ({error}); start `tidegate serve`");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    bail!("gave up: no proxy within a minute")
}

async fn register(here: &str) -> Result<()> {
    let counter = Actor {
        id: Some(id()),
        state: Some(ActorState::default()),
        settings: Some(ActorSettings {
            kind: Kind::Named.into(),
            stateful: true,
            ..Default::default()
        }),
        actions: vec![Action { name: "increment".into() }],
        ..Default::default()
    };
    let registry = Registry { actors: [(ACTOR.to_owned(), counter)].into() };
    let request = RegistrationRequest {
        service_info: Some(ServiceInfo {
            service_name: "counter-rust".into(),
            ..Default::default()
        }),
        actor_system: Some(ActorSystem { name: SYSTEM.into(), registry: Some(registry) }),
    };
    post("/api/v1/system", &request, here).await.map(drop)
}

async fn invoke() -> Result<i64> {
    let request = InvocationRequest {
        system: Some(ActorSystem { name: SYSTEM.into(), registry: None }),
        actor: Some(Actor { id: Some(id()), ..Default::default() }),
        action_name: "increment".into(),
        payload: Some(invocation_request::Payload::Noop(Noop {})),
        ..Default::default()
    };
    let answer =
        post(&format!("/api/v1/system/{SYSTEM}/actors/{ACTOR}/invoke"), &request, "").await?;
    match InvocationResponse::decode(answer)?.payload {
        Some(invocation_response::Payload::Value(count)) => Ok(i64::decode(count.value)?),
        other => bail!("not a count: {other:?}"),
    }
}

/// Posts a message to the proxy. Tidegate calls the address in `tidegate-host` back; without that header it calls
/// `USER_FUNCTION_HOST`:`USER_FUNCTION_PORT`.
async fn post(path: &str, message: &impl Message, here: &str) -> Result<Bytes> {
    let socket = TcpStream::connect(("127.0.0.1", port("PROXY_HTTP_PORT", 9001)?)).await?;
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let mut request = Request::post(path)
        .header("host", "127.0.0.1")
        .header("content-type", "application/octet-stream");
    if !here.is_empty() {
        request = request.header("tidegate-host", here);
    }
    let exchange = async move {
        let response = sender
            .send_request(request.body(Full::new(Bytes::from(message.encode_to_vec())))?)
            .await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(
            status.is_success(),
            "the proxy answered {status}: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    };
    // The connection ends once the exchange drops its sender.
    let both = async { tokio::join!(exchange, connection).0 };
    tokio::time::timeout(Duration::from_secs(30), both).await.context("no answer within 30 s")?
}

fn id() -> ActorId {
    ActorId { name: ACTOR.into(), system: SYSTEM.into(), parent: String::new() }
}

fn port(variable: &str, default: u16) -> Result<u16> {
    std::env::var(variable)
        .map_or(Ok(default), |text| text.parse().with_context(|| format!("{variable} is no port")))
}
