//! Connection: one kept-alive HTTP/1.1 connection, driven by the call that has it.
//!
//! HTTP/1.1 does not say which request an answer answers: the order does. A byte that nobody asked for breaks that order
//! for good, so a connection is looked at before each call and after each answer:
//!
//! - *Before a call*, nothing may have arrived since the last answer, and no end. Else not a byte of the call is written.
//! - *After an answer*, nothing may have come with it or behind it. Else it may have been the answer of another call: it
//!   fails, and its connection is closed.
//!
//! Both looks are hyper's: an idle connection ends when there is a byte in its buffer or in the socket. [`Watched`] makes
//! sure that the socket itself is asked. An unasked answer that arrives after the next call was written cannot be told
//! from that call's own; there, the names that the answer gives decide (see [`Client::call`](super::Client::call)).

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::watched::{ReadNow, Watched};

/// First size of a body's buffer at most; more is taken as it arrives.
const FIRST_BYTES: usize = 64 * 1024;

type Call = Request<Full<Bytes>>;
type Machine<Io> = http1::Connection<TokioIo<Watched<Io>>, Full<Bytes>>;

/// A connection and the machine that moves its bytes.
pub(crate) struct Connection<Io: AsyncRead + AsyncWrite + Send + Unpin + 'static> {
    sender: SendRequest<Full<Bytes>>,
    /// Does nothing unless polled; see [`Connection::drive`].
    machine: Pin<Box<Machine<Io>>>,
    ended: bool,
    /// Whether a call is out.
    is_asked: Arc<AtomicBool>,
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
    /// More arrived than the answer: whose it is, is unknown.
    Unasked,
    /// The answer is larger than this many bytes.
    TooLarge(usize),
}

impl<Io: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection<Io> {
    pub(crate) async fn new(io: Io, read_now: ReadNow<Io>) -> Result<Self, hyper::Error> {
        let is_asked = Arc::new(AtomicBool::new(false));
        let io = Watched::new(io, read_now, Arc::clone(&is_asked));
        let (sender, machine) = http1::handshake(TokioIo::new(io)).await?;
        Ok(Self { sender, machine: Box::pin(machine), ended: false, is_asked })
    }

    /// Sends a call and reads the answer to its end, at most `limit` bytes of body. Gives itself back when it can take another.
    pub(crate) async fn exchange(
        mut self,
        call: Call,
        limit: usize,
    ) -> Result<(Reply, Option<Self>), Failed> {
        if !self.is_quiet().await {
            let reason = "it closed the connection, or sent something, before it was asked";
            return Err(Failed::Unsent(Box::new(call), reason.into()));
        }
        self.is_asked.store(true, Ordering::Relaxed);
        let reply = self.asked(call, limit).await?;
        self.is_asked.store(false, Ordering::Relaxed);
        if self.is_quiet().await {
            return Ok((reply, Some(self)));
        }
        // It is closed, or more has come; hyper keeps what it has read.
        if Pin::into_inner(self.machine).into_parts().read_buf.is_empty() {
            Ok((reply, None))
        } else {
            Err(Failed::Unasked)
        }
    }

    /// Moves bytes as far as they go without waiting; says whether nothing has arrived, and a call can be sent.
    async fn is_quiet(&mut self) -> bool {
        poll_fn(|cx| {
            self.turn(cx);
            Poll::Ready(!self.ended && self.sender.is_ready())
        })
        .await
    }

    async fn asked(&mut self, call: Call, limit: usize) -> Result<Reply, Failed> {
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
