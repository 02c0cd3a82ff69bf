//! Watched: a stream that misses nothing while no call is out.
//!
//! A runtime's socket does not ask the operating system at every read: it is "not ready" until the runtime has next heard
//! from epoll. Bytes or an end that arrived meanwhile are not seen, the next call is written, and what was there before it
//! is taken for its answer. So while no call is out, a read that would wait asks the operating system itself.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads what has arrived, past the runtime; [`WouldBlock`](io::ErrorKind::WouldBlock) when nothing has.
pub(crate) type ReadNow<Io> = fn(&Io, &mut [u8]) -> io::Result<usize>;

/// The stream; see the [module](self).
#[derive(Debug)]
pub(super) struct Watched<Io> {
    io: Io,
    read_now: ReadNow<Io>,
    is_asked: Arc<AtomicBool>,
}

impl<Io> Watched<Io> {
    /// `is_asked` says whether a call is out.
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
        // One byte, or the end, is enough to know: the connection is of no use.
        let mut byte = [0];
        match (self.read_now)(&self.io, &mut byte) {
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
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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
