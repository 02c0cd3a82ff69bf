//! Host: the client that calls user functions; implements the [`Host`](tidegate_stages::ports::Host) port over HTTP/1.1.
//!
//! One call is one `POST /api/v1/actors/actions`. Connections are kept per address, newest first. No connection has its own task:
//! the call that took a connection from the pool polls it, so a response wakes only its own call. A call is sent again only when
//! hyper returns it unsent (decision 4).

#![warn(clippy::indexing_slicing, reason = "bytes from outside are read here")]

mod connect;
mod reading;
mod connection;
mod json;
mod watched;
mod pool;

use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::Full;
use tidegate_stages::actor::{Encoding, Endpoint, HostAddress};
use tidegate_stages::invocation::{ActorInvocation, ActorInvocationResponse};
use tidegate_stages::ports::{HostError, HostProbe};
use tidegate_stages::traces::context;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::metrics::CONNECTS_TOTAL;
use crate::wire;
use crate::wire::json::Types;
use pool::Pool;
use reading::Hold;

pub use connect::{Connect, SystemConnector};
pub(crate) use connection::{Connection, Failed, Reply};
pub(crate) use reading::Reading;

const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION")));
/// Where a host takes calls; read once.
static ACTIONS: LazyLock<Uri> = LazyLock::new(|| Uri::from_static("/api/v1/actors/actions"));
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Bounds of the client.
#[derive(Debug, Clone, Copy)]
pub struct HostOptions {
    /// How long connecting may take.
    pub connect_time: Duration,
    /// How long a connection may stay idle.
    pub max_idle: Duration,
    /// Most idle connections per address. The callers bound the connections in use.
    pub connections: usize,
    /// Size of a response, in bytes.
    pub body_bytes: usize,
    /// Responses that are being read, in bytes; at least one of the largest size. At the bound, they wait unread.
    pub bodies_bytes: usize,
}

/// The client; see the [module](self). Cheap to clone.
pub struct HttpHost<C: Connect>(Arc<Client<C>>);

struct Client<C: Connect> {
    connector: C,
    options: HostOptions,
    pool: Pool<Connection<C::Io>>,
    reading: Reading,
    connects: ::metrics::Counter,
    /// The types that hosts of JSON know.
    types: Types,
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
    /// Builds a client that connects through `connector`.
    pub fn new(connector: C, options: HostOptions) -> Self {
        Self::with_types(connector, options, Types::default())
    }

    /// The same; in JSON, messages of these types have a form of their own.
    pub fn with_types(connector: C, options: HostOptions, types: Types) -> Self {
        Self(Arc::new(Client {
            connector,
            options,
            pool: Pool::new(options.max_idle, options.connections),
            reading: Reading::new(options.bodies_bytes, options.body_bytes),
            connects: ::metrics::counter!(CONNECTS_TOTAL),
            types,
        }))
    }

    /// Closes connections that were idle too long, until `ended`. Run this as a task.
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

    /// Always ready: demand decides who may call (decision 7).
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HostError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, invocation: ActorInvocation) -> Self::Future {
        Client::call(Arc::clone(&self.0), invocation)
    }
}

impl<C: Connect> HostProbe for HttpHost<C> {
    fn probe(&self, address: &HostAddress) -> BoxFuture<'static, Result<(), HostError>> {
        let (client, address) = (Arc::clone(&self.0), address.clone());
        let limit = client.options.connect_time;
        Box::pin(
            async move { connect::connect(&client.connector, &address, limit).await.map(drop) },
        )
    }
}

impl<C: Connect> Client<C> {
    /// What needs no waiting is done before the future is made: each value that it keeps is moved with it.
    fn call(
        self: Arc<Self>,
        mut invocation: ActorInvocation,
    ) -> BoxFuture<'static, Result<ActorInvocationResponse, HostError>> {
        let (address, asked) = (invocation.host.clone(), Arc::clone(&invocation.actor));
        let answer = invocation.answer.take();
        // What a host of JSON does not answer stays.
        let tags = (invocation.encoding == Encoding::Json).then(|| invocation.tags.clone());
        let mut call = match request(&address, invocation, &self.types) {
            Ok(call) => call,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        Box::pin(async move {
            // Held until the response is decoded.
            let mut hold = self.reading.enter(answer);
            let (reply, connection) = self.exchange(&address, &mut call, &mut hold).await?;
            // A response that names another actor belongs to another call, and one in JSON that makes no sense may do so: its
            // connection is out of order.
            let (answered, is_in_order) = if let Some(tags) = tags {
                let answered = json::answer(&address, reply, (&asked, tags), &self.types);
                let is_in_order = !matches!(answered, Err(HostError::Garbled { .. }));
                (answered, is_in_order)
            } else {
                let read = wire::action_response(reply.body.clone(), &asked);
                let is_in_order = !matches!(read, Err(wire::Malformed::Wrong { .. }));
                (read.map_err(|malformed| garbled(&address, &reply, &malformed)), is_in_order)
            };
            if let Some(connection) = connection.filter(|_| is_in_order) {
                self.pool.put(&address, connection);
            }
            answered
        })
    }

    /// Sends the call over a kept connection; over a new one when no kept connection can be used.
    async fn exchange(
        &self,
        address: &HostAddress,
        call: &mut Request<Full<Bytes>>,
        hold: &mut Hold,
    ) -> Result<(Reply, Option<Connection<C::Io>>), HostError> {
        while let Some(kept) = self.pool.take(address) {
            match kept.exchange(call, hold).await {
                Err(Failed::Unsent(_)) => {}
                answered => return answered.map_err(|failed| into_error(address, failed)),
            }
        }
        // Boxed: few calls need it.
        let new = Box::pin(self.connect(address)).await?;
        new.exchange(call, hold).await.map_err(|failed| into_error(address, failed))
    }

    async fn connect(&self, address: &HostAddress) -> Result<Connection<C::Io>, HostError> {
        let io = connect::connect(&self.connector, address, self.options.connect_time).await?;
        self.connects.increment(1);
        Connection::new(io, C::read_now).await.map_err(|error| HostError::Connect {
            address: address.to_string(),
            reason: error.to_string(),
        })
    }
}

fn request(
    address: &HostAddress,
    mut invocation: ActorInvocation,
    types: &Types,
) -> Result<Request<Full<Bytes>>, HostError> {
    let authority = match address.endpoint() {
        Endpoint::Unix(_) => HeaderValue::from_static("localhost"),
        Endpoint::Http(authority) | Endpoint::Https(authority) => HeaderValue::from_str(authority)
            .map_err(|error| HostError::Connect {
                address: address.to_string(),
                reason: error.to_string(),
            })?,
    };
    let traceparent = std::mem::take(&mut invocation.traceparent);
    let (content_type, body) = match invocation.encoding {
        Encoding::Protobuf => (OCTET_STREAM, wire::action_request(&invocation)),
        Encoding::Json => (json::JSON, wire::json::action_request(&invocation, types)),
    };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = ACTIONS.clone();
    let headers = request.headers_mut();
    headers.insert(HOST, authority);
    headers.insert(USER_AGENT, AGENT);
    headers.insert(CONTENT_TYPE, content_type);
    if !traceparent.is_empty() {
        let (parent, state) = context::split(&traceparent);
        for (name, text) in [(TRACEPARENT, parent), (TRACESTATE, state)] {
            if let Ok(value) = HeaderValue::from_str(text)
                && !value.is_empty()
            {
                headers.insert(name, value);
            }
        }
    }
    Ok(request)
}

fn into_error(address: &HostAddress, failed: Failed) -> HostError {
    let address = address.to_string();
    match failed {
        Failed::Unsent(reason) => HostError::Connect { address, reason },
        Failed::Broken(reason) => HostError::Broken { address, reason },
        Failed::Busy => HostError::Unread { address },
        Failed::Silent(silence) => {
            let reason = format!("no byte of its answer came for {silence:?}");
            HostError::Broken { address, reason }
        }
        Failed::Unasked => HostError::Garbled { address, answer: "more than it was asked".into() },
        Failed::TooLarge(limit) => {
            HostError::Garbled { address, answer: format!("more than {limit} bytes") }
        }
    }
}

/// The error of a reply that is no `ActorInvocationResponse`. When the body is one, the HTTP status is ignored (decision 24).
fn garbled(address: &HostAddress, reply: &Reply, malformed: &wire::Malformed) -> HostError {
    let of = reply.content_type().unwrap_or("no type");
    let what = match malformed {
        _ if reply.body.is_empty() => "an empty body".into(),
        wire::Malformed::Wrong { .. } => "a response of another actor or system".into(),
        wire::Malformed::Missing { field: wire::UPDATED_CONTEXT, .. } => {
            "no updated_context: it failed, or does not know the action".into()
        }
        wire::Malformed::Missing { field, .. } => format!("no {field}, so nothing of it is kept"),
        wire::Malformed::Undecodable { .. } | wire::Malformed::TooMany { .. } => {
            format!("{} bytes of {of}, no ActorInvocationResponse", reply.body.len())
        }
    };
    let answer = format!("HTTP {} with {what}", reply.status.as_u16());
    HostError::Garbled { address: address.to_string(), answer }
}

#[cfg(test)]
mod tests;
