//! Pace: ends a connection whose peer is too slow.
//!
//! hyper's own timer for request heads also counts the idle time of a kept-alive connection, and is created and dropped for every
//! request. Here the bytes of a connection ([`Paced`]) note what they do in [`Progress`], and one timer beside the connection
//! ([`Watch`]) reads it. The timer does not depend on what hyper polls. When a whole request arrives at once, the usual case, the
//! cost is one read of the clock: the timer stays armed and is reset only when it fires.

mod frames;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tidegate_pipeline::alarm::Alarm;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::progress::Progress;
use frames::Frames;

/// What an HTTP/2 client sends first. A head of HTTP/1 is told from it within these bytes.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Time limits of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How long a connection may have no request.
    pub(super) idle: Duration,
    /// How long a head may take, from the first byte of the request.
    pub(super) head: Duration,
    /// How long the peer may take no byte.
    pub(super) write: Duration,
}

/// In what a peer was too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooSlow {
    /// It sent no request.
    Idle,
    /// The rest of a head did not come.
    Head,
    /// It took no byte of its answer.
    Write,
}

impl TooSlow {
    /// Its name in metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Head => "head",
            Self::Write => "write",
        }
    }
}

/// Ends when the peer of a connection is too slow. Polled together with the connection, whose bytes and requests it watches.
#[derive(Debug)]
pub(super) struct Watch {
    progress: Arc<Progress>,
    pace: Pace,
    alarm: Alarm,
}

impl Watch {
    pub(super) fn new(progress: Arc<Progress>, pace: Pace) -> Self {
        let alarm = Alarm::new(Instant::now() + pace.idle);
        Self { progress, pace, alarm }
    }

    /// From now on, the connection may be idle only that long.
    pub(super) fn end_within(&mut self, idle: Duration) {
        self.pace.idle = idle;
        self.progress.rest();
    }

    /// When the peer will have been too slow, as things stand.
    fn deadline(&self) -> Option<(Instant, TooSlow)> {
        let write =
            self.progress.stuck_since().map(|since| (since + self.pace.write, TooSlow::Write));
        let head = self.progress.head_since().map(|since| (since + self.pace.head, TooSlow::Head));
        // Half a head is no idle connection.
        let rest = head.or_else(|| {
            self.progress.idle_since().map(|since| (since + self.pace.idle, TooSlow::Idle))
        });
        write.into_iter().chain(rest).min_by_key(|(deadline, _)| *deadline)
    }

    /// Requests in flight have their own time limits. Some of what ends them does not wake this connection.
    fn look_again(&self) -> Instant {
        Instant::now() + self.pace.idle.min(self.pace.write)
    }
}

impl Future for Watch {
    type Output = TooSlow;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TooSlow> {
        if let Some((at, too_slow)) = self.deadline() {
            return self.alarm.poll_at(at, cx).map(|()| too_slow);
        }
        let mut at = self.alarm.rings_at();
        while self.alarm.poll_at(at, cx).is_ready() {
            at = self.look_again();
        }
        Poll::Pending
    }
}

/// What the bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// So many bytes of HTTP/2's preface, or of a head that begins like it.
    Unknown(usize),
    Http1,
    Http2(Frames),
}

impl Protocol {
    fn saw(&mut self, bytes: &[u8]) {
        let seen = match self {
            Self::Unknown(seen) => *seen,
            Self::Http1 => return,
            Self::Http2(frames) => return frames.saw(bytes),
        };
        let rest = PREFACE.get(seen..).unwrap_or_default();
        let length = bytes.len().min(rest.len());
        *self = if rest.get(..length) != bytes.get(..length) {
            Self::Http1
        } else if length == rest.len() {
            let mut frames = Frames::default();
            frames.saw(bytes.get(length..).unwrap_or_default());
            Self::Http2(frames)
        } else {
            Self::Unknown(seen + length)
        };
    }
}

/// A byte stream that notes in [`Progress`] what its peer does.
#[derive(Debug)]
pub(super) struct Paced<Io> {
    io: Io,
    progress: Arc<Progress>,
    protocol: Protocol,
    /// Over HTTP/1: bytes have come while there was no request; so many requests there had been before. Bytes that come with a
    /// request are its body, or one behind it: half a head that is sent together with the request before it counts as idle.
    begun: Option<u32>,
}

impl<Io> Paced<Io> {
    pub(super) fn new(io: Io, progress: Arc<Progress>) -> Self {
        Self { io, progress, protocol: Protocol::Unknown(0), begun: None }
    }

    fn saw(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.protocol.saw(bytes);
        if !matches!(self.protocol, Protocol::Http2(_)) && !self.progress.is_busy() {
            self.begun = Some(self.progress.requests());
        }
    }

    /// Nothing can be read.
    fn waits(&mut self) {
        if let Protocol::Http2(frames) = &self.protocol {
            return self.progress.head(frames.is_in_head());
        }
        let Some(before) = self.begun else { return };
        if before == self.progress.requests() {
            self.progress.head(true);
        } else {
            self.begun = None;
            self.progress.head(false);
        }
    }

    fn wrote<T>(&mut self, written: Poll<T>) -> Poll<T> {
        self.progress.stuck(written.is_pending());
        written
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Paced<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                self.saw(buf.filled().get(before..).unwrap_or_default());
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.waits();
                Poll::Pending
            }
        }
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Paced<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.wrote(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(cx);
        self.wrote(shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const PACE: Pace = Pace {
        idle: Duration::from_secs(75),
        head: Duration::from_secs(10),
        write: Duration::from_secs(30),
    };

    struct Connection {
        client: DuplexStream,
        paced: Paced<DuplexStream>,
        progress: Arc<Progress>,
        watch: Watch,
    }

    fn connection() -> Connection {
        let (client, server) = duplex(64);
        let progress = Arc::<Progress>::default();
        let paced = Paced::new(server, Arc::clone(&progress));
        Connection { client, paced, watch: Watch::new(Arc::clone(&progress), PACE), progress }
    }

    impl Connection {
        /// What ends it, and after how many seconds, while all that comes is read.
        async fn ends(&mut self) -> (TooSlow, u64) {
            let started = Instant::now();
            let reading = async {
                while self.paced.read_u8().await.is_ok() {}
                std::future::pending::<()>().await;
            };
            let why = tokio::select! {
                biased;
                () = reading => unreachable!(),
                why = &mut self.watch => why,
            };
            (why, started.elapsed().as_secs())
        }

        async fn serves_on(&mut self) -> bool {
            tokio::time::timeout(Duration::from_mins(10), self.ends()).await.is_err()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_after_the_idle_time() {
        assert_eq!(connection().ends().await, (TooSlow::Idle, 75));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_in_is_cut_off_after_the_head_time() {
        for head in ["G", "P", "PRI * HTTP/2.0"] {
            let Connection { mut client, paced, progress, watch } = connection();
            let (_kept, server_side) = duplex(1);
            let mut read = Connection { client: server_side, paced, progress, watch };
            let trickle = async {
                client.write_all(head.as_bytes()).await.unwrap();
                loop {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    client.write_all(b"G").await.unwrap();
                }
            };
            let ended = tokio::select! {
                ended = read.ends() => ended,
                () = trickle => unreachable!(),
            };
            assert_eq!(ended, (TooSlow::Head, 10), "{head}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_head_counts_again_after_a_request() {
        let mut connection = connection();
        connection.client.write_all(b"G").await.unwrap();
        connection.paced.read_u8().await.unwrap();
        drop(connection.progress.begin());
        assert!(!connection.serves_on().await);
        connection.watch = Watch::new(Arc::clone(&connection.progress), PACE);
        connection.client.write_all(b"G").await.unwrap();
        assert_eq!(connection.ends().await, (TooSlow::Head, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_head_of_http2_has_the_time_of_a_head_also_beside_another_request() {
        let (ping, headers) = ([0, 0, 0, 6, 0, 0, 0, 0, 0], [0, 0, 9, 1, 5, 0, 0, 0, 1]);
        for (bytes, is_busy, ends) in [
            (&ping[..], false, (TooSlow::Idle, 75)),
            (&headers[..], false, (TooSlow::Head, 10)),
            (&headers[..], true, (TooSlow::Head, 10)),
        ] {
            let mut connection = connection();
            let _request = is_busy.then(|| connection.progress.begin());
            connection.client.write_all(PREFACE).await.unwrap();
            connection.client.write_all(bytes).await.unwrap();
            assert_eq!(connection.ends().await, ends, "{bytes:?} {is_busy}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_flight_is_never_idle_and_the_idle_time_starts_when_it_ends() {
        let mut connection = connection();
        connection.client.write_all(b"G").await.unwrap();
        connection.paced.read_u8().await.unwrap();
        let request = connection.progress.begin();
        assert!(connection.serves_on().await, "a slow answer is not an idle connection");
        drop(request);
        assert_eq!(connection.ends().await, (TooSlow::Idle, 75));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_cut_off_after_the_write_time() {
        let Connection { client: _client, mut paced, watch, progress } = connection();
        let _request = progress.begin();
        let started = Instant::now();
        let why = tokio::select! {
            biased;
            _ = paced.write_all(&[0; 128]) => unreachable!(),
            why = watch => why,
        };
        assert_eq!((why, started.elapsed().as_secs()), (TooSlow::Write, 30));
    }
}
