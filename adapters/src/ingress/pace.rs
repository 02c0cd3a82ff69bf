//! Pace: closes a connection whose peer is too slow.
//!
//! hyper's own timer for request heads also counts the idle time of a kept-alive connection, and is created and dropped for every
//! request. This wrapper separates idle time from slow heads, and limits writes too. When a whole request arrives at once, the
//! usual case, the cost is one read of the clock: the read timer stays armed and is reset only when it fires.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::progress::Progress;

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

/// A byte stream that fails with [`io::ErrorKind::TimedOut`] when its peer is too slow.
#[derive(Debug)]
pub(super) struct Paced<Io> {
    io: Io,
    pace: Pace,
    progress: Arc<Progress>,
    /// The finished requests at the last idle check.
    seen: u32,
    idle_since: Instant,
    /// Whether bytes of a request have arrived that the service has not seen yet.
    begun: bool,
    /// When the wait for the rest of the head began.
    waiting_since: Option<Instant>,
    /// Whether the connection is HTTP/2, where a byte may be a control frame and no request.
    http2: Option<bool>,
    read_timer: Pin<Box<Sleep>>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl<Io> Paced<Io> {
    pub(super) fn new(io: Io, pace: Pace, progress: Arc<Progress>) -> Self {
        let now = Instant::now();
        Self {
            io,
            pace,
            progress,
            seen: 0,
            idle_since: now,
            begun: false,
            waiting_since: None,
            http2: None,
            read_timer: Box::pin(sleep_until(now + pace.idle)),
            write_timer: None,
        }
    }

    /// Called when nothing can be read. Fails when that has lasted too long.
    fn check_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.progress.in_flight() > 0 {
            let Some(slowest) = self.progress.slowest() else { return Poll::Pending };
            return self.end_at(slowest + self.pace.write, cx);
        }
        let finished = self.progress.finished();
        if finished != self.seen {
            self.seen = finished;
            self.idle_since = Instant::now();
            self.begun = false;
            self.waiting_since = None;
        }
        let deadline = if self.begun && self.http2 == Some(false) {
            *self.waiting_since.get_or_insert_with(Instant::now) + self.pace.head
        } else {
            self.idle_since + self.pace.idle
        };
        self.end_at(deadline, cx)
    }

    fn end_at(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.read_timer.deadline() > deadline {
            self.read_timer.as_mut().reset(deadline);
        }
        while self.read_timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.read_timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    fn saw(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.http2.get_or_insert_with(|| bytes.starts_with(b"PRI"));
        self.begun = true;
    }

    /// Fails when the peer has taken no byte for too long.
    fn check_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timer = None;
            return written;
        }
        let write = self.pace.write;
        let timer =
            self.write_timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + write)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
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
            Poll::Pending => self.check_idle(cx),
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
        self.check_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.check_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.check_write(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.io).poll_shutdown(cx);
        self.check_write(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PACE: Pace = Pace {
        idle: Duration::from_secs(75),
        head: Duration::from_secs(10),
        write: Duration::from_secs(30),
    };

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_after_the_idle_time() {
        let (_client, server) = duplex(64);
        let mut paced = Paced::new(server, PACE, Arc::default());
        let started = Instant::now();
        assert_eq!(paced.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), 75);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_in_is_cut_off_after_the_head_time() {
        let (mut client, server) = duplex(64);
        let mut paced = Paced::new(server, PACE, Arc::default());
        let trickle = async {
            loop {
                if client.write_all(b"G").await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let started = Instant::now();
        let read = async move {
            loop {
                if let Err(error) = paced.read_u8().await {
                    break error;
                }
            }
        };
        let (error, ()) = tokio::join!(read, trickle);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_flight_is_never_idle_and_the_idle_time_starts_when_it_ends() {
        let (mut client, server) = duplex(64);
        let progress = Arc::<Progress>::default();
        let mut paced = Paced::new(server, PACE, Arc::clone(&progress));
        client.write_all(b"G").await.unwrap();
        paced.read_u8().await.unwrap();
        let request = progress.begin();
        let waited = tokio::time::timeout(Duration::from_mins(10), paced.read_u8()).await;
        assert!(waited.is_err(), "a slow answer is not an idle connection");
        drop(request);
        let started = Instant::now();
        assert_eq!(paced.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), 75);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_ends_its_connection_whatever_others_do() {
        let (mut client, server) = duplex(64);
        let progress = Arc::<Progress>::default();
        let mut paced = Paced::new(server, PACE, Arc::clone(&progress));
        client.write_all(b"PRI").await.unwrap();
        paced.read_exact(&mut [0; 3]).await.unwrap();
        let (mut taken, mut left) = (progress.begin(), progress.begin());
        let running = tokio::time::timeout(Duration::from_mins(10), paced.read_u8()).await;
        assert!(running.is_err(), "neither call has its answer");
        let started = Instant::now();
        taken.answered();
        left.answered();
        let taking = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                taken.advanced();
            }
        };
        let error = tokio::select! {
            read = paced.read_u8() => read.unwrap_err(),
            () = taking => unreachable!(),
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), 30);
        drop(left);
        drop(taken);
        assert_eq!(progress.slowest(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_cut_off_after_the_write_time() {
        let (_client, server) = duplex(4);
        let mut paced = Paced::new(server, PACE, Arc::default());
        let started = Instant::now();
        let error = paced.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), 30);
    }
}
