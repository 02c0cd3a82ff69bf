//! HTTP/2: what one connection may ask for. All limits stand here, also those that are hyper's and h2's defaults.
//!
//! | a client that … | costs at most | and then |
//! |---|---|---|
//! | opens streams | [`STREAMS`] at once | the next one is refused (`REFUSED_STREAM`) |
//! | opens and resets streams | [`RESETS`] that were not looked at | the connection ends (`ENHANCE_YOUR_CALM`) |
//! | makes mistakes for which streams are reset | [`RESETS_FOR_MISTAKES`] | the connection ends (`ENHANCE_YOUR_CALM`) |
//! | sends a long head | `TIDEGATE_HTTP_HEAD_BYTES`, decoded | 431; the connection ends when it is far above |
//! | sends a head in ever more frames (`CONTINUATION`) | as many as such a head needs, and a quarter more (h2) | the connection ends |
//! | sends half a head | `TIDEGATE_HTTP_HEAD_TIMEOUT` | the connection ends |
//! | sends a body faster than it is read | [`STREAM_WINDOW_BYTES`], all streams together [`WINDOW_BYTES`] | it has to wait |
//! | sends `PING`, `SETTINGS` | one answer of each that was not written (h2) | nothing more is read until it was |
//! | takes no answer | `TIDEGATE_HTTP_WRITE_TIMEOUT` | the stream is reset, or the connection ends |
//! | sends only frames that are no request | `TIDEGATE_HTTP_IDLE_TIMEOUT` | the connection ends |

use std::time::Duration;

use hyper_util::server::conn::auto::Http2Builder;

use super::Limits;

/// Most requests in flight on one connection.
const STREAMS: u32 = 128;
/// Streams that their client resets before the server looks at them.
const RESETS: usize = 20;
/// Streams that the server resets because of mistakes of the client, in the life of a connection.
const RESETS_FOR_MISTAKES: usize = 256;
/// Bytes of one body that the client may send before they are read.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The same of all bodies of a connection.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// Largest frame.
const FRAME_BYTES: u32 = 16 * 1024;
/// Bytes of an answer that h2 asks to be given at once; answers are in memory anyway.
const SEND_BYTES: usize = 64 * 1024;
/// How long the answer to a ping of the server may take.
const PING_TIME: Duration = Duration::from_secs(20);

/// Sets all limits.
pub(super) fn set<E>(mut http2: Http2Builder<'_, E>, limits: &Limits, head_bytes: usize) {
    http2
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(RESETS_FOR_MISTAKES)
        .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX))
        .max_frame_size(FRAME_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .adaptive_window(false)
        .max_send_buf_size(SEND_BYTES)
        .keep_alive_interval(limits.idle_time)
        .keep_alive_timeout(PING_TIME);
}
