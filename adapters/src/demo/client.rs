//! Client: a user's requests to the proxy, over one persistent connection.

use std::fmt::Display;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::proto::eigr::functions::protocol::actors::{
    Action, Actor, ActorDeactivationStrategy, ActorId, ActorSettings, ActorSnapshotStrategy,
    ActorState, ActorSystem, Kind, Metadata, Registry, TimeoutStrategy,
    actor_deactivation_strategy, actor_snapshot_strategy,
};
use crate::proto::eigr::functions::protocol::{
    InvocationRequest, InvocationResponse, Noop, RegistrationRequest, ServiceInfo, SpawnRequest,
    SpawnResponse, invocation_request, invocation_response,
};
use crate::proto::google::protobuf::Any;

/// System of the demo's actors.
pub(super) const SYSTEM: &str = "demo";
/// The definition from which all actors are made.
pub(super) const DEFINITION: &str = "counter";
/// The action that adds one.
pub(super) const ACTION: &str = "increment";
/// Type of a count: prost encodes a bare `u64` as this message.
pub(super) const COUNT_TYPE: &str = "type.googleapis.com/google.protobuf.UInt64Value";

/// Time limit of a response; the proxy itself gives up a call that was not started after 10 s.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait before a retry that the proxy requests.
const RETRY_LIMIT: Duration = Duration::from_secs(5);
/// Largest response body, in bytes.
const BODY_LIMIT_BYTES: usize = 1_024 * 1_024;

/// A call returned no count.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The proxy is full; the count is unchanged.
    #[error("the proxy asks to come back later: {text}")]
    Shed {
        /// How long to wait before a retry.
        after: Duration,
        /// Text of the response.
        text: String,
    },
    /// The proxy refused the call; the text says whether the action ran.
    #[error("the proxy answered {status}: {text}")]
    Refused {
        /// Status of the response.
        status: StatusCode,
        /// Text of the response.
        text: String,
    },
    /// No response: the action may have run.
    #[error("no answer from the proxy: {0}")]
    Lost(String),
    /// A response that cannot be parsed.
    #[error("the proxy's answer makes no sense: {0}")]
    Garbled(String),
}

/// One caller's connection to the proxy, opened when needed.
#[derive(Debug)]
pub(super) struct Client {
    proxy: SocketAddr,
    link: Option<Link>,
}

#[derive(Debug)]
struct Link {
    sender: SendRequest<Full<Bytes>>,
    /// The call in flight drives the connection, so an idle connection needs no task.
    connection: Pin<Box<Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
}

impl Client {
    pub(super) fn new(proxy: SocketAddr) -> Client {
        Client { proxy, link: None }
    }

    /// Registers the definition as a host does: once.
    pub(super) async fn register(&mut self) -> Result<(), CallError> {
        self.post("/api/v1/system", registration().encode_to_vec()).await.map(drop)
    }

    pub(super) async fn spawn(
        &mut self,
        names: impl Iterator<Item = &str>,
    ) -> Result<(), CallError> {
        let actors = names.map(|name| ActorId { parent: DEFINITION.into(), ..id(name) }).collect();
        let path = format!("/api/v1/system/{SYSTEM}/actors/spawn");
        self.post(&path, SpawnRequest { actors }.encode_to_vec()).await.map(drop)
    }

    /// Adds one to an actor's count and returns the new count.
    pub(super) async fn increment(&mut self, actor: &str) -> Result<u64, CallError> {
        self.invoke(actor, ACTION).await
    }

    /// Returns an actor's count; the proxy reads it from the state, without the host.
    pub(super) async fn count(&mut self, actor: &str) -> Result<u64, CallError> {
        self.invoke(actor, "get").await
    }

    async fn invoke(&mut self, actor: &str, action: &str) -> Result<u64, CallError> {
        let request = InvocationRequest {
            system: Some(ActorSystem { name: SYSTEM.into(), registry: None }),
            actor: Some(Actor { id: Some(id(actor)), ..Actor::default() }),
            action_name: action.into(),
            payload: Some(invocation_request::Payload::Noop(Noop {})),
            ..InvocationRequest::default()
        };
        let path = format!("/api/v1/system/{SYSTEM}/actors/{actor}/invoke");
        let answer = self.post(&path, request.encode_to_vec()).await?;
        let answer = InvocationResponse::decode(answer).map_err(garbled)?;
        match answer.payload {
            Some(invocation_response::Payload::Value(any)) => count_in(Some(&any)).map_err(garbled),
            _ => count_in(None).map_err(garbled),
        }
    }

    async fn post(&mut self, path: &str, body: Vec<u8>) -> Result<Bytes, CallError> {
        let request = Request::post(path)
            .header(HOST, self.proxy.to_string())
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(Full::new(Bytes::from(body)))
            .map_err(garbled)?;
        match timeout(CALL_LIMIT, self.exchange(request)).await {
            Ok(Ok((StatusCode::OK, _, body))) => Ok(body),
            Ok(Ok((status, retry_after, body))) => {
                // All responses of the protocol have their status in field 1, so the smallest type can
                // parse any of them.
                let said = SpawnResponse::decode(body).ok().and_then(|answer| answer.status);
                let text = said.map_or_else(|| "(no text)".into(), |status| status.message);
                match retry_after {
                    Some(after) if status == StatusCode::SERVICE_UNAVAILABLE => {
                        Err(CallError::Shed { after: after.min(RETRY_LIMIT), text })
                    }
                    _ => Err(CallError::Refused { status, text }),
                }
            }
            Ok(Err(error)) => {
                self.link = None;
                Err(CallError::Lost(format!("{error:#}")))
            }
            Err(_) => {
                self.link = None;
                Err(CallError::Lost(format!("{CALL_LIMIT:?} have passed")))
            }
        }
    }

    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> anyhow::Result<(StatusCode, Option<Duration>, Bytes)> {
        let link = match self.link.take() {
            Some(link) if !link.sender.is_closed() => link,
            _ => Link::open(self.proxy).await?,
        };
        let Link { mut sender, mut connection } = link;
        let answer = {
            let mut answer = pin!(answer_to(request, &mut sender));
            tokio::select! {
                biased;
                answer = &mut answer => answer,
                // The connection has ended, with or without a response.
                _ = &mut connection => return answer.await,
            }
        };
        self.link = Some(Link { sender, connection });
        answer
    }
}

impl Link {
    async fn open(proxy: SocketAddr) -> anyhow::Result<Link> {
        let socket = TcpStream::connect(proxy)
            .await
            .with_context(|| format!("cannot connect to {proxy}"))?;
        socket.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(socket)).await?;
        Ok(Link { sender, connection: Box::pin(connection) })
    }
}

async fn answer_to(
    request: Request<Full<Bytes>>,
    sender: &mut SendRequest<Full<Bytes>>,
) -> anyhow::Result<(StatusCode, Option<Duration>, Bytes)> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let (status, retry_after) = (response.status(), retry_after(&response));
    let body = Limited::new(response.into_body(), BODY_LIMIT_BYTES).collect().await;
    Ok((status, retry_after, body.map_err(anyhow::Error::from_boxed)?.to_bytes()))
}

/// Returns the count in a state or payload; no state means 0.
pub(super) fn count_in(any: Option<&Any>) -> anyhow::Result<u64> {
    let Some(any) = any else { return Ok(0) };
    anyhow::ensure!(
        any.type_url == COUNT_TYPE,
        "expected a {COUNT_TYPE}, got a {:?}",
        any.type_url
    );
    u64::decode(any.value.clone()).context("not a count")
}

fn garbled(error: impl Display) -> CallError {
    CallError::Garbled(format!("{error:#}"))
}

fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn id(name: &str) -> ActorId {
    ActorId { name: name.into(), system: SYSTEM.into(), parent: String::new() }
}

/// Returns the sample host's registration: one unnamed, stateful definition.
fn registration() -> RegistrationRequest {
    let after = |millis| TimeoutStrategy { timeout: millis };
    let settings = ActorSettings {
        kind: Kind::Unnamed.into(),
        stateful: true,
        snapshot_strategy: Some(ActorSnapshotStrategy {
            strategy: Some(actor_snapshot_strategy::Strategy::Timeout(after(2_000))),
        }),
        deactivation_strategy: Some(ActorDeactivationStrategy {
            strategy: Some(actor_deactivation_strategy::Strategy::Timeout(after(10_000))),
        }),
        ..ActorSettings::default()
    };
    let definition = Actor {
        id: Some(id(DEFINITION)),
        state: Some(ActorState::default()),
        settings: Some(settings),
        actions: vec![Action { name: ACTION.into() }],
        timer_actions: Vec::new(),
        metadata: Some(Metadata::default()),
    };
    let registry = Registry { actors: [(DEFINITION.to_owned(), definition)].into() };
    RegistrationRequest {
        service_info: Some(ServiceInfo {
            service_name: "tidegate-demo".into(),
            service_version: env!("CARGO_PKG_VERSION").into(),
            service_runtime: "rust".into(),
            support_library_name: "none".into(),
            support_library_version: String::new(),
            protocol_major_version: 1,
            protocol_minor_version: 1,
        }),
        actor_system: Some(ActorSystem { name: SYSTEM.into(), registry: Some(registry) }),
    }
}
