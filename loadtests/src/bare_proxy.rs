//! Bare proxy: a minimal hyper reverse proxy, the reference for the cost of a proxy.
//!
//! The proxy collects a request, sends it over a pooled connection, and returns the response. By design there is no route, no
//! deadline, no retry, no log and no metric. The cost of everything that another proxy adds shows in its ratio to this proxy. The
//! pool is hand-written, last in first out; it was measured at three quarters of the CPU of hyper-util's client.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use crate::listen::{ListenArgs, serve};

/// A minimal reverse proxy: forwards every request to one upstream and adds nothing.
#[derive(Debug, Clone, clap::Args)]
pub struct BareProxyArgs {
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Where requests go, as `HOST:PORT`.
    #[arg(long)]
    pub upstream: SocketAddr,
}

/// Serves until a signal stops the proxy.
///
/// # Errors
/// When the port cannot be bound.
pub async fn run(args: BareProxyArgs) -> anyhow::Result<()> {
    let pool = Arc::new(Pool {
        upstream: args.upstream,
        host: HeaderValue::from_str(&args.upstream.to_string()).context("upstream as a header")?,
        idle: Mutex::new(Vec::new()),
        connections: TaskTracker::new(),
    });
    let service = service_fn(move |request| {
        let pool = Arc::clone(&pool);
        async move {
            Ok::<_, Infallible>(pool.forward(request).await.unwrap_or_else(|error| {
                let mut response = Response::new(Full::new(Bytes::from(format!("{error:#}"))));
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response
            }))
        }
    });
    serve(&args.listen, service).await
}

/// Idle upstream connections; never more than the most concurrent client connections.
#[derive(Debug)]
struct Pool {
    upstream: SocketAddr,
    host: HeaderValue,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    connections: TaskTracker,
}

impl Pool {
    async fn forward(&self, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        parts.headers.insert(HOST, self.host.clone());
        parts.headers.remove(CONNECTION);
        let mut upstream = self.ready().await?;
        let answer = upstream.send_request(Request::from_parts(parts, Full::new(body))).await?;
        let (mut parts, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        self.idle.lock().push(upstream);
        parts.headers.remove(CONNECTION);
        Ok(Response::from_parts(parts, Full::new(body)))
    }

    async fn ready(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        loop {
            let pooled = self.idle.lock().pop();
            let Some(mut pooled) = pooled else { return self.connect().await };
            if pooled.ready().await.is_ok() {
                return Ok(pooled);
            }
        }
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.upstream).await.context("connecting upstream")?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        self.connections.spawn(connection);
        sender.ready().await?;
        Ok(sender)
    }
}
