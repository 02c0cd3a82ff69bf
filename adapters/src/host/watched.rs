//! Watched: a stream that notices bytes and the end at once while no call is in flight.
//!
//! A tokio socket does not read from the operating system at every poll: it stays "not ready" until the runtime polls epoll
//! again. Until then, arrived bytes or an end stay unseen; the next call is written, and the old bytes are taken for its
//! response. So until the first byte of a call is written, a read that would wait reads from the operating system directly.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads arrived bytes directly. Fails with [`WouldBlock`](io::ErrorKind::WouldBlock) when none has arrived.
pub(crate) type ReadNow<Io> = fn(&mut Io, &mut [u8]) -> io::Result<usize>;

/// The stream; see the [module](self).
#[derive(Debug)]
pub(super) struct Watched<Io> {
    io: Io,
    read_now: ReadNow<Io>,
    is_asked: Arc<AtomicBool>,
}

impl<Io> Watched<Io> {
    /// `is_asked` becomes true when a byte of a call is written. The call's owner sets it to false before.
    pub(super) fn new(io: Io, read_now: ReadNow<Io>, is_asked: Arc<AtomicBool>) -> Self {
        Self { io, read_now, is_asked }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Watched<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_ready() || self.is_asked.load(Ordering::Relaxed) {
            return read;
        }
        // One byte, or the end, is enough: the connection cannot be used any more.
        let mut byte = [0];
        let read_now = self.read_now;
        match read_now(&mut self.io, &mut byte) {
            Ok(0) => Poll::Ready(Ok(())),
            Ok(_) => {
                buf.put_slice(&byte);
                Poll::Ready(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Watched<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_asked.store(true, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_asked.store(true, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
