//! Channel: a byte stream, in the clear or over TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

/// The stream.
#[derive(Debug)]
pub(crate) enum Channel<Io> {
    /// In the clear.
    Clear(Io),
    /// Over TLS, after the handshake.
    Tls(Box<TlsStream<Io>>),
}

macro_rules! each {
    ($channel:expr, $inner:ident => $call:expr) => {
        match $channel {
            Channel::Clear($inner) => $call,
            Channel::Tls($inner) => $call,
        }
    };
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncRead for Channel<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(&mut *self, inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Channel<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(&mut *self, inner => Pin::new(inner).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(&mut *self, inner => Pin::new(inner).poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, inner => inner.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut *self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut *self, inner => Pin::new(inner).poll_shutdown(cx))
    }
}
