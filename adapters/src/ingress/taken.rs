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
    stream: Option<Stream>,
}

/// An answer over HTTP/2.
#[derive(Debug)]
struct Stream {
    taken: Arc<Taken>,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl AnswerBody {
    /// Over HTTP/1.
    pub(super) fn new(held: Option<Held>, in_flight: InFlight) -> Self {
        Self { held: held.map(|held| held.carrying(in_flight, None)), stream: None }
    }

    /// Over HTTP/2, reset when no byte is taken for `limit`.
    pub(super) fn of_stream(held: Option<Held>, in_flight: InFlight, limit: Duration) -> Self {
        let Some(held) = held else { return Self { held: None, stream: None } };
        let taken = Arc::new(Taken::default());
        let held = Some(held.carrying(in_flight, Some(Arc::clone(&taken))));
        note(Some(Instant::now() + limit));
        Self { held, stream: Some(Stream { taken, limit, timer: None }) }
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
        note(None);
        loop {
            if stream.taken.poll_all(cx).is_ready() {
                return Poll::Ready(None);
            }
            let deadline = stream.taken.last() + stream.limit;
            let timer = stream.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(Some(Err(Untaken(stream.limit))));
            }
            timer.as_mut().reset(deadline);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.stream.as_ref().is_none_or(|stream| stream.taken.is_all())
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
