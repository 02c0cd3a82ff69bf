//! Host: the client that calls user functions, the [`Host`](tidegate_stages::ports::Host) port over HTTP/1.1.
//!
//! One call is one `POST /api/v1/actors/actions`. Connections are kept per address, newest first, and there is no task per
//! connection: whoever has taken a connection out of the pool drives it, so an answer wakes the call that waits for it and
//! nothing else. A call is sent again only when hyper hands it back unsent (decision 4).

#![warn(clippy::indexing_slicing, reason = "bytes from outside are read here")]

mod connect;
mod connection;
mod pool;
mod metrics;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::Full;
use tidegate_stages::actor::HostAddress;
use tidegate_stages::invocation::{ActorInvocation, ActorInvocationResponse};
use tidegate_stages::ports::HostError;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::wire;
use pool::Pool;

pub use connect::{Connect, SystemConnector};
pub(crate) use connection::{Connection, Failed, Reply};
pub use metrics::{CONNECTS_TOTAL, IDLE_CONNECTIONS};

const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Bounds of the client.
#[derive(Debug, Clone, Copy)]
pub struct HostOptions {
    /// How long connecting may take.
    pub connect_time: Duration,
    /// How long a connection may wait for its next call.
    pub max_idle: Duration,
    /// Connections that may wait per address. How many are in use is bounded by whoever calls.
    pub connections: usize,
    /// Size of an answer, in bytes.
    pub body_bytes: usize,
}

/// The client; see the [module](self). Cheap to clone.
pub struct HttpHost<C: Connect>(Arc<Client<C>>);

struct Client<C: Connect> {
    connector: C,
    options: HostOptions,
    pool: Pool<Connection<C::Io>>,
    connects: ::metrics::Counter,
}

impl<C: Connect> Clone for HttpHost<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: Connect> std::fmt::Debug for HttpHost<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpHost").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl<C: Connect> HttpHost<C> {
    /// A client that connects through `connector`.
    pub fn new(connector: C, options: HostOptions) -> Self {
        Self(Arc::new(Client {
            connector,
            options,
            pool: Pool::new(options.max_idle, options.connections),
            connects: ::metrics::counter!(CONNECTS_TOTAL),
        }))
    }

    /// Closes connections that have waited too long, until `ended`; to be run as a task.
    pub async fn trim(self, ended: CancellationToken) {
        let trimming = async {
            let mut ticks = tokio::time::interval(self.0.options.max_idle);
            loop {
                ticks.tick().await;
                self.0.pool.trim();
            }
        };
        ended.run_until_cancelled(trimming).await;
    }
}

impl<C: Connect> Service<ActorInvocation> for HttpHost<C> {
    type Response = ActorInvocationResponse;
    type Error = HostError;
    type Future = BoxFuture<'static, Result<ActorInvocationResponse, HostError>>;

    /// Always ready: who may call is decided by demand (decision 7).
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HostError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, invocation: ActorInvocation) -> Self::Future {
        let client = Arc::clone(&self.0);
        Box::pin(async move { client.call(invocation).await })
    }
}

impl<C: Connect> Client<C> {
    async fn call(
        &self,
        invocation: ActorInvocation,
    ) -> Result<ActorInvocationResponse, HostError> {
        let address = invocation.host.clone();
        let call = request(&address, invocation)?;
        let reply = self.exchange(&address, call).await?;
        understood(&address, reply)
    }

    /// Sends the call over a kept connection, or over a new one when there is none or the kept one had died unnoticed.
    async fn exchange(
        &self,
        address: &HostAddress,
        mut call: Request<Full<Bytes>>,
    ) -> Result<Reply, HostError> {
        if let Some(kept) = self.kept(address).await {
            match self.try_exchange(address, kept, call).await {
                Ok(reply) => return Ok(reply),
                Err(Failed::Unsent(unsent, _)) => call = *unsent,
                Err(failed) => return Err(into_error(address, failed)),
            }
        }
        let io = connect::connect(&self.connector, address, self.options.connect_time).await?;
        self.connects.increment(1);
        let new = Connection::new(io).await.map_err(|error| HostError::Connect {
            address: address.to_string(),
            reason: error.to_string(),
        })?;
        self.try_exchange(address, new, call).await.map_err(|failed| into_error(address, failed))
    }

    async fn try_exchange(
        &self,
        address: &HostAddress,
        mut connection: Connection<C::Io>,
        call: Request<Full<Bytes>>,
    ) -> Result<Reply, Failed> {
        let reply = connection.exchange(call, self.options.body_bytes).await?;
        if std::future::poll_fn(|cx| Poll::Ready(connection.is_usable(cx))).await {
            self.pool.put(address, connection);
        }
        Ok(reply)
    }

    /// A kept connection that works, as far as this side can know.
    async fn kept(&self, address: &HostAddress) -> Option<Connection<C::Io>> {
        while let Some(mut kept) = self.pool.take(address) {
            if std::future::poll_fn(|cx| Poll::Ready(kept.is_usable(cx))).await {
                return Some(kept);
            }
        }
        None
    }
}

fn request(
    address: &HostAddress,
    mut invocation: ActorInvocation,
) -> Result<Request<Full<Bytes>>, HostError> {
    let authority = if crate::net::unix_path(address.as_str()).is_some() {
        HeaderValue::from_static("localhost")
    } else {
        HeaderValue::from_str(address.as_str()).map_err(|error| HostError::Connect {
            address: address.to_string(),
            reason: error.to_string(),
        })?
    };
    let traceparent = std::mem::take(&mut invocation.traceparent);
    let mut request = Request::new(Full::new(wire::action_request(invocation)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static("/api/v1/actors/actions");
    let headers = request.headers_mut();
    headers.insert(HOST, authority);
    headers.insert(USER_AGENT, AGENT);
    headers.insert(CONTENT_TYPE, OCTET_STREAM);
    if let Ok(traceparent) = HeaderValue::try_from(traceparent)
        && !traceparent.is_empty()
    {
        headers.insert(TRACEPARENT, traceparent);
    }
    Ok(request)
}

fn into_error(address: &HostAddress, failed: Failed) -> HostError {
    let address = address.to_string();
    match failed {
        Failed::Unsent(_, reason) => HostError::Connect { address, reason },
        Failed::Broken(reason) => HostError::Broken { address, reason },
        Failed::TooLarge(limit) => {
            HostError::Garbled { address, answer: format!("more than {limit} bytes") }
        }
    }
}

/// Reads an answer. Its status does not matter when the body is a response (decision 24).
fn understood(address: &HostAddress, reply: Reply) -> Result<ActorInvocationResponse, HostError> {
    let status = reply.status.as_u16();
    let garbled = |what: String| HostError::Garbled {
        address: address.to_string(),
        answer: format!("HTTP {status} with {what}"),
    };
    if reply.body.is_empty() {
        return Err(garbled("an empty body".into()));
    }
    let bytes = reply.body.len();
    wire::action_response(reply.body).map_err(|malformed| {
        if let wire::Malformed::Missing { .. } = malformed {
            return garbled("no updated_context: it failed, or does not know the action".into());
        }
        let of = reply.content_type.as_ref().and_then(|of| of.to_str().ok()).unwrap_or("no type");
        garbled(format!("{bytes} bytes of {of}, no ActorInvocationResponse"))
    })
}

#[cfg(test)]
mod tests;
