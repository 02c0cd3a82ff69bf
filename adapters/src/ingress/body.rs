//! Body: reads a request's body within its bounds.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::byte_bound::{ByteBound, HeldBytes};
use crate::limited::within;

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    /// It is larger than the limit.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// Bodies of all requests in flight fill their capacity.
    #[error("bodies of requests in flight fill their {0} bytes")]
    NoCapacity(usize),
    /// It did not arrive in time.
    #[error("the body did not arrive within {0:?}")]
    Late(Duration),
    /// It ended early or is badly framed.
    #[error("the body ended early or is badly framed")]
    Broken,
}

/// The body of a request that is lent to somebody who may drop it: each clone is the same body.
#[derive(Debug, Clone)]
pub(super) struct Lent(Arc<Mutex<Incoming>>);

impl Lent {
    pub(super) fn new(body: Incoming) -> Self {
        Self(Arc::new(Mutex::new(body)))
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut *self.0.lock()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().size_hint()
    }
}

/// Whether a body may be read, as far as its head announces it.
pub(super) fn check(
    body: &impl Body,
    limit: usize,
    bodies: &Arc<ByteBound>,
) -> Result<(), BodyError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(BodyError::TooLarge(limit));
    }
    // What is announced is looked for, and not held.
    match bodies.try_hold(announced) {
        Some(_) => Ok(()),
        None => Err(BodyError::NoCapacity(bodies.limit())),
    }
}

/// Reads the whole body into one buffer of its own size.
///
/// The body is copied once, out of the connection's read buffer. Without the copy, a payload in a queue keeps that whole buffer
/// (8 KiB and more) alive, no bound counts the buffer, and the connection needs a new buffer for each request.
pub(super) async fn read<B>(
    body: &mut B,
    limit: usize,
    time: Duration,
    held: &mut HeldBytes,
) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or_default();
    let reading = async {
        let mut bytes = Vec::new();
        // With an announced length the end is known; one more `frame()` would cost another poll of the connection.
        while !body.is_end_stream()
            && let Some(frame) = body.frame().await
        {
            let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
            if bytes.len() + data.len() > limit {
                return Err(BodyError::TooLarge(limit));
            }
            if bytes.capacity() - bytes.len() < data.len() {
                let more = growth(bytes.len(), data.len(), announced);
                if !held.try_grow(more) {
                    return Err(BodyError::NoCapacity(held.limit()));
                }
                bytes.reserve_exact(more);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.into())
    };
    within(time, pin!(reading)).await.unwrap_or(Err(BodyError::Late(time)))
}

/// How much a full buffer grows for the next bytes. Memory is taken as bytes arrive: at most twice as much as has arrived, and
/// never more than is announced.
fn growth(read: usize, next: usize, announced: usize) -> usize {
    next.max(read.min(announced.saturating_sub(read)))
}

/// Reads and drops the rest of a body, after its response. A close with unread bytes resets the connection, and a client that still
/// sends would not get its response. Stops at the limits.
pub(super) async fn discard<B>(body: &mut B, limit: usize, time: Duration)
where
    B: Body<Data = Bytes> + Unpin,
{
    let reading = async {
        let mut left = limit;
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // A timeout is no failure: the response was sent.
    timeout(time, reading).await.unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::growth;

    #[test]
    fn memory_is_taken_as_bytes_arrive_and_not_as_they_are_announced() {
        assert_eq!(growth(0, 1, 8_000_000), 1);
        assert_eq!(growth(0, 100, 100), 100, "a small body has a buffer of its own size");
        assert_eq!(growth(1_000, 10, 8_000_000), 1_000, "it doubles");
        assert_eq!(growth(1_000, 10, 1_500), 500, "up to what is announced");
        assert_eq!(growth(1_000, 10, 0), 10, "nothing is announced: chunks");
    }
}
