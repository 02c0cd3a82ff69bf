//! Connection: one kept-alive HTTP/1.1 connection, polled by the call that holds it.
//!
//! In HTTP/1.1 only the order assigns a response to its request. One unexpected byte breaks that order for good. So the
//! connection is checked before each call and after each response:
//!
//! - *Before a call*, neither a byte nor the end may have arrived since the last response. Otherwise no byte of the call is
//!   written.
//! - *After a response*, no byte may have arrived with it. Otherwise the response may belong to another call: the call fails and
//!   the connection is closed.
//!
//! hyper does both checks: it ends a connection without a call when a byte arrives. After a response hyper looks into its
//! buffer only. Before the next call is written, [`Watched`] makes hyper read the socket. An unexpected response that arrives
//! after the next call was written looks like the response of that call. Then the names in the response decide (see
//! [`Client::call`](super::Client::call)); one in JSON need not have any.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::reading::{Busy, Hold};
use super::watched::{ReadNow, Watched};
use crate::limited::within;

/// What a connection has read and nobody has taken yet, at most; it keeps the memory while it is idle.
const BUFFER_BYTES: usize = 64 * 1024;

type Call = Request<Full<Bytes>>;
type Machine<Io> = http1::Connection<TokioIo<Watched<Io>>, Full<Bytes>>;

/// A connection, and the hyper state machine that moves its bytes.
pub(crate) struct Connection<Io: AsyncRead + AsyncWrite + Send + Unpin + 'static> {
    sender: SendRequest<Full<Bytes>>,
    /// Makes progress only when polled; see [`Connection::drive`]. `None` when it has ended without a response.
    machine: Option<Pin<Box<Machine<Io>>>>,
    ended: bool,
    /// Whether a byte of the call was written.
    is_asked: Arc<AtomicBool>,
}

/// The complete response of a host.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// What the host says that its body is.
    pub(crate) fn content_type(&self) -> Option<&str> {
        self.headers.get(CONTENT_TYPE)?.to_str().ok()
    }
}

/// Why there is no [`Reply`].
#[derive(Debug)]
pub(crate) enum Failed {
    /// No byte of the call was written: it can be sent again.
    Unsent(String),
    /// The call was written, at least in part.
    Broken(String),
    /// More bytes arrived than one response: its call is unknown.
    Unasked,
    /// The response is larger than this many bytes.
    TooLarge(usize),
    /// Other responses had all bytes for too long. This one was not read.
    Busy,
    /// The host stopped sending in the middle of its response.
    Silent(Duration),
}

impl<Io: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection<Io> {
    pub(crate) async fn new(io: Io, read_now: ReadNow<Io>) -> Result<Self, hyper::Error> {
        let is_asked = Arc::new(AtomicBool::new(false));
        let io = Watched::new(io, read_now, Arc::clone(&is_asked));
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BUFFER_BYTES);
        let (sender, machine) = builder.handshake(TokioIo::new(io)).await?;
        Ok(Self { sender, machine: Some(Box::pin(machine)), ended: false, is_asked })
    }

    /// Sends a call and reads the whole response, whose body `hold` holds. Also returns the connection if it can take
    /// another call. Takes the call out of where it is, which is cheaper than to pass it on, and puts it back if it is unsent.
    pub(crate) async fn exchange(
        mut self,
        call: &mut Call,
        hold: &mut Hold,
    ) -> Result<(Reply, Option<Self>), Failed> {
        self.is_asked.store(false, Ordering::Relaxed);
        let reply = self.asked(call, hold).await?;
        if self.is_quiet().await {
            return Ok((reply, Some(self)));
        }
        // Closed, or more bytes have arrived: hyper keeps those in its buffer.
        let rest = self.machine.map(|machine| Pin::into_inner(machine).into_parts().read_buf);
        if rest.is_none_or(|rest| rest.is_empty()) {
            Ok((reply, None))
        } else {
            Err(Failed::Unasked)
        }
    }

    /// Whether the connection is open, has received nothing and can send a call.
    async fn is_quiet(&mut self) -> bool {
        poll_fn(|cx| {
            // When the last byte came with the others, hyper has looked for more already, and wants the next call.
            if !self.ended && !self.sender.is_ready() {
                self.turn(cx);
            }
            Poll::Ready(!self.ended && self.sender.is_ready())
        })
        .await
    }

    async fn asked(&mut self, call: &mut Call, hold: &mut Hold) -> Result<Reply, Failed> {
        let sent = pin!(self.sender.try_send_request(std::mem::take(call)));
        let response = self.drive(sent).await.map_err(|mut error| {
            let reason = in_words(error.error());
            match error.take_message() {
                Some(unsent) => {
                    *call = unsent;
                    Failed::Unsent(format!(
                        "it closed the connection, or sent something, before it was asked: {reason}"
                    ))
                }
                None => Failed::Broken(reason),
            }
        })?;
        let (head, mut body) = response.into_parts();
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > hold.largest() {
            return Err(Failed::TooLarge(hold.largest()));
        }
        // The connection is not driven meanwhile: what the host sends stays in its socket.
        let is_whole = body.size_hint().exact().is_some();
        hold.reach(announced, is_whole).await.map_err(|Busy| Failed::Busy)?;
        // All of it is held, so it is allocated at once: a buffer that grows is copied, and may take twice as much.
        let mut bytes = BytesMut::with_capacity(announced);
        // With an announced length the end is known; one more `frame()` would cost another poll of the connection.
        while !body.is_end_stream() {
            let frame = within(hold.silence(), pin!(self.drive(pin!(body.frame())))).await;
            let Some(frame) = frame.map_err(|_| Failed::Silent(hold.silence()))? else { break };
            let frame = frame.map_err(|error| Failed::Broken(in_words(&error)))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > hold.largest() {
                return Err(Failed::TooLarge(hold.largest()));
            }
            hold.reach(bytes.len() + data.len(), is_whole).await.map_err(|Busy| Failed::Busy)?;
            // Copied: states live long, and a slice would keep the connection's whole read buffer alive.
            bytes.extend_from_slice(&data);
        }
        let body = bytes.freeze();
        Ok(Reply { status: head.status, headers: head.headers, body })
    }

    /// Runs `work`, which waits for this connection, and polls the connection meanwhile.
    async fn drive<F: Future>(&mut self, mut work: Pin<&mut F>) -> F::Output {
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            self.turn(cx);
            // `work` takes at once what the machine has just read. When `work` then wants more or has capacity for more, it wakes
            // the machine through this task's waker.
            let polled = work.as_mut().poll(cx);
            if polled.is_pending() && self.ended {
                // With the machine, hyper drops a call that it has not begun to write: `work` gets it back.
                self.machine = None;
                return work.as_mut().poll(cx);
            }
            polled
        })
        .await
    }

    fn turn(&mut self, cx: &mut Context<'_>) {
        // A waiting `work` receives the error through hyper's sender; an idle connection that ends is dropped.
        if !self.ended
            && let Some(machine) = &mut self.machine
            && machine.as_mut().poll(cx).is_ready()
        {
            self.ended = true;
        }
    }
}

/// Returns the text of hyper's error and of its source.
fn in_words(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
