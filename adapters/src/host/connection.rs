//! Connection: one kept-alive HTTP/1.1 connection, driven by the call that has it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// First size of a body's buffer at most; more is taken as it arrives.
const FIRST_BYTES: usize = 64 * 1024;

type Call = Request<Full<Bytes>>;

/// A connection and the machine that moves its bytes.
pub(crate) struct Connection<Io: AsyncRead + AsyncWrite + Send + Unpin + 'static> {
    sender: SendRequest<Full<Bytes>>,
    /// Does nothing unless polled; see [`Connection::drive`].
    machine: Pin<Box<http1::Connection<TokioIo<Io>, Full<Bytes>>>>,
    ended: bool,
}

/// What a host answered, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content_type: Option<HeaderValue>,
    pub(crate) body: Bytes,
}

/// Why there is no [`Reply`].
#[derive(Debug)]
pub(crate) enum Failed {
    /// Not a byte of the call was written: here it is again.
    Unsent(Box<Call>, String),
    /// The call was written, at least in part.
    Broken(String),
    /// The answer is larger than this many bytes.
    TooLarge(usize),
}

impl<Io: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection<Io> {
    pub(crate) async fn new(io: Io) -> Result<Self, hyper::Error> {
        let (sender, machine) = http1::handshake(TokioIo::new(io)).await?;
        Ok(Self { sender, machine: Box::pin(machine), ended: false })
    }

    /// Moves bytes as far as they go without waiting, which notices that the host has closed an idle connection; says whether a
    /// call can be sent.
    pub(crate) fn is_usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.turn(cx);
        !self.ended && self.sender.is_ready()
    }

    /// Sends a call and reads the answer to its end, at most `limit` bytes of body. After an error the connection is of no use.
    pub(crate) async fn exchange(&mut self, call: Call, limit: usize) -> Result<Reply, Failed> {
        let sent = self.sender.try_send_request(call);
        let response = self.drive(sent).await.map_err(|mut error| {
            let reason = in_words(error.error());
            match error.take_message() {
                Some(call) => Failed::Unsent(Box::new(call), reason),
                None => Failed::Broken(reason),
            }
        })?;
        let (mut head, mut body) = response.into_parts();
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > limit {
            return Err(Failed::TooLarge(limit));
        }
        let body = self.drive(read(&mut body, announced, limit)).await?;
        Ok(Reply { status: head.status, content_type: head.headers.remove(CONTENT_TYPE), body })
    }

    /// Runs `work`, which waits for this connection, and the connection with it.
    async fn drive<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            self.turn(cx);
            // What the machine has just brought in is taken at once. When `work` wants more after this, or has room for more,
            // it tells the machine through this task's waker.
            work.as_mut().poll(cx)
        })
        .await
    }

    fn turn(&mut self, cx: &mut Context<'_>) {
        // How it ended is told to whoever waits for a response; an idle connection that ends is just dropped.
        if !self.ended && self.machine.as_mut().poll(cx).is_ready() {
            self.ended = true;
        }
    }
}

/// Reads a body into one buffer of its own size: states live long, and a slice of the connection's read buffer would keep all of it.
async fn read(body: &mut Incoming, announced: usize, limit: usize) -> Result<Bytes, Failed> {
    let mut bytes = BytesMut::with_capacity(announced.min(FIRST_BYTES));
    // An announced length is known to be reached; asking for one more frame would cost a turn of the connection.
    while !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|error| Failed::Broken(in_words(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(Failed::TooLarge(limit));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// hyper's error and what caused it.
fn in_words(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
