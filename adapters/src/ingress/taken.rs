//! Taken: the body of an answer, which ends when its client has taken it.
//!
//! Over HTTP/1, one answer leaves at a time, and the connection notes whether its bytes leave. Over HTTP/2, answers wait for
//! the windows of their streams while the connection goes on. So the body of such an answer stays open until its last byte was
//! taken; when none is taken for too long, it fails, and hyper resets the stream. Until the window of a stream takes its first
//! byte, hyper does not ask whether the body ends: [`unless_untaken`] watches that time.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::progress::{InFlight, Taken};
use super::sending::Held;

tokio::task_local! {
    /// Of the stream that this task runs: when its answer will have waited too long for its first byte to be taken.
    static UNBEGUN: Cell<Option<Instant>>;
}

/// A client took no byte of its answer for too long.
#[derive(Debug, thiserror::Error)]
#[error("no byte of the answer was taken within {0:?}")]
pub(super) struct Untaken(Duration);

/// The body of an answer; see the [module](self).
#[derive(Debug)]
pub(super) struct AnswerBody {
    held: Option<Held>,
    /// Over HTTP/2.
    stream: Option<Taking>,
}

/// The bytes of an answer over HTTP/2, or of a frame of an answer, while their client takes them.
#[derive(Debug)]
pub(super) struct Taking {
    taken: Arc<Taken>,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Taking {
    /// The client takes a byte within `limit`, and then the next one, or the stream is reset.
    pub(super) fn new(limit: Duration) -> Self {
        note(Some(Instant::now() + limit));
        Self { taken: Arc::default(), limit, timer: None }
    }

    /// What learns which bytes are taken.
    pub(super) fn taken(&self) -> Arc<Taken> {
        Arc::clone(&self.taken)
    }

    /// Whether the last byte was taken.
    pub(super) fn is_all(&self) -> bool {
        self.taken.is_all()
    }

    /// Waits until the last byte was taken. Fails when none is taken for too long.
    pub(super) fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Untaken>> {
        note(None);
        loop {
            if self.taken.poll_all(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let deadline = self.taken.last() + self.limit;
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(Err(Untaken(self.limit)));
            }
            timer.as_mut().reset(deadline);
        }
    }
}

impl AnswerBody {
    /// Over HTTP/1.
    pub(super) fn new(held: Option<Held>, in_flight: InFlight) -> Self {
        Self { held: held.map(|held| held.carrying(in_flight, None)), stream: None }
    }

    /// Over HTTP/2, reset when no byte is taken for `limit`.
    pub(super) fn of_stream(held: Option<Held>, in_flight: InFlight, limit: Duration) -> Self {
        let Some(held) = held else { return Self { held: None, stream: None } };
        let taking = Taking::new(limit);
        let held = Some(held.carrying(in_flight, Some(taking.taken())));
        Self { held, stream: Some(taking) }
    }
}

/// Notes on the stream of this task. Elsewhere it notes nothing.
fn note(deadline: Option<Instant>) {
    UNBEGUN.try_with(|unbegun| unbegun.set(deadline)).unwrap_or_default();
}

impl Body for AnswerBody {
    type Data = Held;
    type Error = Untaken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Held>, Untaken>>> {
        if let Some(held) = self.held.take() {
            return Poll::Ready(Some(Ok(Frame::data(held))));
        }
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        match ready!(stream.poll_all(cx)) {
            Ok(()) => Poll::Ready(None),
            Err(untaken) => Poll::Ready(Some(Err(untaken))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.stream.as_ref().is_none_or(Taking::is_all)
    }

    fn size_hint(&self) -> SizeHint {
        let bytes = self.held.as_ref().map_or(0, bytes::Buf::remaining);
        SizeHint::with_exact(bytes as u64)
    }
}

/// Runs a stream of HTTP/2, and drops it, which resets it, when no byte of its answer is taken in time.
pub(super) async fn unless_untaken(stream: impl Future) {
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let run = async {
        let mut stream = pin!(stream);
        poll_fn(|cx| {
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let Some(deadline) = UNBEGUN.with(Cell::get) else { return Poll::Pending };
            timer.get_or_insert_with(|| Box::pin(sleep_until(deadline))).as_mut().poll(cx)
        })
        .await;
    };
    UNBEGUN.scope(Cell::new(None), run).await;
}
