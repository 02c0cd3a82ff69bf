//! Body: reads a request's body within its bounds.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::timeout;

use crate::byte_bound::HeldBytes;

/// Upper bound of a buffer's first size: an announced length takes no memory until the bytes arrive.
const FIRST_BYTES: usize = 64 * 1024;

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
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(BodyError::TooLarge(limit));
    }
    let reading = async {
        let mut bytes = BytesMut::with_capacity(announced.min(FIRST_BYTES));
        // With an announced length the end is known; one more `frame()` would cost another poll of the connection.
        while !body.is_end_stream()
            && let Some(frame) = body.frame().await
        {
            let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
            if bytes.len() + data.len() > limit {
                return Err(BodyError::TooLarge(limit));
            }
            if !held.try_grow(data.len()) {
                return Err(BodyError::NoCapacity(held.limit()));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.freeze())
    };
    timeout(time, reading).await.unwrap_or(Err(BodyError::Late(time)))
}

/// Reads and drops the rest of a body. A close with unread bytes resets the connection, and a client that still sends would not
/// get its response. Stops at the limits.
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
    // A timeout is no failure: the response is sent anyway.
    timeout(time, reading).await.unwrap_or_default();
}
