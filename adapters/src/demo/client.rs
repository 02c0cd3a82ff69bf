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
use tokio::time::{sleep, timeout};

use super::cast::{COUNTER, INCREMENT, LEDGER, SYSTEM, count_in, id, ledger_of, registration};
use super::notes::Notes;
use crate::proto::eigr::functions::protocol::actors::{Actor, ActorId, ActorSystem};
use crate::proto::eigr::functions::protocol::{
    InvocationRequest, InvocationResponse, Noop, SpawnRequest, SpawnResponse, invocation_request,
    invocation_response,
};
use crate::proto::google::protobuf::Any;

/// Time limit of a response; the proxy itself gives up a call that was not started after 10 s.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// How often in a row a call may be shed.
pub(super) const PATIENCE: u32 = 10;
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

/// Retries for a while when the proxy has just started and refuses for want of capacity.
pub(super) async fn patiently<T>(
    mut ask: impl AsyncFnMut() -> Result<T, CallError>,
) -> Result<T, CallError> {
    for _ in 0..PATIENCE {
        match ask().await {
            Err(CallError::Shed { after, .. }) => sleep(after).await,
            answer => return answer,
        }
    }
    ask().await
}

/// Status, how long to wait before a retry, and body.
type Answer = (StatusCode, Option<Duration>, Bytes);

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

    /// A connection of its own to the same proxy.
    pub(super) fn beside(&self) -> Client {
        Client::new(self.proxy)
    }

    /// Registers all definitions as a host does: once.
    pub(super) async fn register(&mut self) -> Result<(), CallError> {
        self.post("/api/v1/system", registration().encode_to_vec()).await.map(drop)
    }

    /// Makes these counters, and a ledger for each.
    pub(super) async fn spawn(
        &mut self,
        names: impl Iterator<Item = &str>,
    ) -> Result<(), CallError> {
        let of = |parent: &str, name: &str| ActorId { parent: parent.into(), ..id(name) };
        let pair = |name| [of(COUNTER, name), of(LEDGER, &ledger_of(name))];
        let actors = names.flat_map(pair).collect();
        let path = format!("/api/v1/system/{SYSTEM}/actors/spawn");
        self.post(&path, SpawnRequest { actors }.encode_to_vec()).await.map(drop)
    }

    /// Adds one to an actor's count and returns the new count.
    pub(super) async fn increment(&mut self, actor: &str) -> Result<u64, CallError> {
        count_in(self.invoke(actor, INCREMENT).await?.as_ref()).map_err(garbled)
    }

    /// Returns an actor's count; the proxy reads it from the state, without the host.
    pub(super) async fn count(&mut self, actor: &str) -> Result<u64, CallError> {
        count_in(self.invoke(actor, "get").await?.as_ref()).map_err(garbled)
    }

    /// Returns what an actor noted of the numbers that it received.
    pub(super) async fn notes(&mut self, actor: &str) -> Result<Notes, CallError> {
        Notes::of(self.invoke(actor, "get").await?.as_ref()).map_err(garbled)
    }

    /// Returns the text of `/metrics`.
    pub(super) async fn metrics(&mut self) -> Result<String, CallError> {
        let request = Request::get("/metrics").header(HOST, self.proxy.to_string());
        match self.send(request.body(Full::default()).map_err(garbled)?).await? {
            (StatusCode::OK, _, body) => Ok(String::from_utf8_lossy(&body).into_owned()),
            (status, ..) => Err(CallError::Refused { status, text: "no metrics".into() }),
        }
    }

    async fn invoke(&mut self, actor: &str, action: &str) -> Result<Option<Any>, CallError> {
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
            Some(invocation_response::Payload::Value(any)) => Ok(Some(any)),
            _ => Ok(None),
        }
    }

    async fn post(&mut self, path: &str, body: Vec<u8>) -> Result<Bytes, CallError> {
        let request = Request::post(path)
            .header(HOST, self.proxy.to_string())
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(Full::new(Bytes::from(body)))
            .map_err(garbled)?;
        match self.send(request).await? {
            (StatusCode::OK, _, body) => Ok(body),
            (status, retry_after, body) => {
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
        }
    }

    /// Sends a request and reads the answer within the time limit.
    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, CallError> {
        let answer = timeout(CALL_LIMIT, self.exchange(request)).await;
        let lost = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("{CALL_LIMIT:?} have passed"),
        };
        self.link = None;
        Err(CallError::Lost(lost))
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
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
) -> anyhow::Result<Answer> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let (status, retry_after) = (response.status(), retry_after(&response));
    let body = Limited::new(response.into_body(), BODY_LIMIT_BYTES).collect().await;
    Ok((status, retry_after, body.map_err(anyhow::Error::from_boxed)?.to_bytes()))
}

fn garbled(error: impl Display) -> CallError {
    CallError::Garbled(format!("{error:#}"))
}

fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
