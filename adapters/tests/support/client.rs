//! A caller: one keep-alive connection to the proxy, with a time limit for every response.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::proto::{InvocationRequest, InvocationResponse};

/// How long an answer may take before the test calls it a hang.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Why there was no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The connection failed: refused, reset, or closed.
    Connection(String),
    /// Nothing came within [`ANSWER_LIMIT`].
    Silence,
}

/// An answer of the proxy.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// Decodes the body.
    pub(crate) fn decode<M: Message + Default>(&self) -> M {
        M::decode(self.body.clone()).unwrap_or_else(|error| {
            panic!("HTTP {} with a body that does not decode: {error}", self.status)
        })
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinSet<()>,
}

impl Client {
    /// Connects to `host:port`.
    pub(crate) async fn connect(address: &str) -> Result<Self, NoAnswer> {
        let connection = |error: std::io::Error| NoAnswer::Connection(error.to_string());
        let stream = TcpStream::connect(address).await.map_err(connection)?;
        stream.set_nodelay(true).map_err(connection)?;
        Self::over(stream).await
    }

    /// Speaks over a connection that was made.
    pub(crate) async fn over<Io>(stream: Io) -> Result<Self, NoAnswer>
    where
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, driving) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| NoAnswer::Connection(error.to_string()))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // The error also reaches the request that was in flight.
            drop(driving.await);
        });
        Ok(Self { sender, driver })
    }

    /// Sends one request and waits for its answer.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, NoAnswer> {
        let answer = async {
            self.sender.ready().await?;
            let response = self.sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Reply {
                status: head.status.as_u16(),
                headers: head.headers,
                body,
            })
        };
        match timeout(ANSWER_LIMIT, answer).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(NoAnswer::Connection(error.to_string())),
            Err(_) => Err(NoAnswer::Silence),
        }
    }

    /// Posts a protobuf message.
    pub(crate) async fn post(&mut self, path: &str, body: Bytes) -> Result<Reply, NoAnswer> {
        let request = Request::post(path)
            .header("host", "localhost")
            .header("content-type", "application/octet-stream")
            .body(Full::new(body))
            .expect("a valid request");
        self.send(request).await
    }

    /// Gets a path.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Reply, NoAnswer> {
        let request = Request::get(path)
            .header("host", "localhost")
            .body(Full::default())
            .expect("a valid request");
        self.send(request).await
    }

    /// Makes one call; the answer decodes whatever its status is.
    pub(crate) async fn invoke(
        &mut self,
        call: &InvocationRequest,
    ) -> Result<(u16, InvocationResponse), NoAnswer> {
        let id =
            call.actor.as_ref().and_then(|actor| actor.id.as_ref()).expect("an actor is named");
        let path = format!("/api/v1/system/{}/actors/{}/invoke", id.system, id.name);
        let reply = self.post(&path, call.encode_to_vec().into()).await?;
        Ok((reply.status, reply.decode()))
    }
}
