//! Client: one keep-alive connection, one request at a time, each with a deadline.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// Why a call has no response.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent: the call did not run.
    #[error("cannot connect to {0}")]
    Unreachable(SocketAddr, #[source] std::io::Error),
    /// The connection broke; the call may have run.
    #[error("the connection broke before the answer")]
    Broken(#[source] hyper::Error),
    /// The call may have run, or may still run.
    #[error("no answer within {0:?}")]
    Silent(Duration),
}

/// A connection to the target. Opened at first use, and again after it broke.
#[derive(Debug)]
pub struct Client {
    target: SocketAddr,
    host: HeaderValue,
    deadline: Duration,
    sender: Option<SendRequest<Full<Bytes>>>,
    connections: TaskTracker,
}

impl Client {
    /// Creates a client without a connection; `deadline` bounds each call, including the connect.
    pub fn new(target: SocketAddr, deadline: Duration) -> Self {
        let host = HeaderValue::from_str(&target.to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("localhost"));
        Self { target, host, deadline, sender: None, connections: TaskTracker::new() }
    }

    /// Builds a request with the headers of every call.
    pub fn request(&self, method: Method, uri: Uri, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        request
    }

    /// Sends a request and collects its response.
    ///
    /// # Errors
    /// See [`CallError`]. Not cancel safe: after a dropped call, the next call reconnects.
    pub async fn call(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, CallError> {
        // The connection is taken out, so a failed or cancelled call never leaves a half-read connection.
        let idle = self.sender.take();
        let deadline = self.deadline;
        let exchange = exchange(self.target, &self.connections, idle, request);
        let (sender, response) =
            timeout(deadline, exchange).await.map_err(|_| CallError::Silent(deadline))??;
        self.sender = Some(sender);
        Ok(response)
    }
}

async fn exchange(
    target: SocketAddr,
    connections: &TaskTracker,
    idle: Option<SendRequest<Full<Bytes>>>,
    mut request: Request<Full<Bytes>>,
) -> Result<(SendRequest<Full<Bytes>>, Response<Bytes>), CallError> {
    if let Some(mut sender) = idle
        && sender.ready().await.is_ok()
    {
        match sender.try_send_request(request).await {
            Ok(response) => return collect(sender, response).await,
            // Returned unsent: the server closed an idle connection, and nothing ran.
            Err(mut error) => match error.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(CallError::Broken(error.into_error())),
            },
        }
    }
    let mut sender = connect(target, connections).await?;
    let response = sender.send_request(request).await.map_err(CallError::Broken)?;
    collect(sender, response).await
}

async fn collect(
    sender: SendRequest<Full<Bytes>>,
    response: Response<hyper::body::Incoming>,
) -> Result<(SendRequest<Full<Bytes>>, Response<Bytes>), CallError> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(CallError::Broken)?.to_bytes();
    Ok((sender, Response::from_parts(parts, body)))
}

async fn connect(
    target: SocketAddr,
    connections: &TaskTracker,
) -> Result<SendRequest<Full<Bytes>>, CallError> {
    let unreachable = |error| CallError::Unreachable(target, error);
    let stream = TcpStream::connect(target).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let (mut sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(CallError::Broken)?;
    connections.spawn(connection);
    sender.ready().await.map_err(CallError::Broken)?;
    Ok(sender)
}
