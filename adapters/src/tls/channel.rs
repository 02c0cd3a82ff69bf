//! Channel: a byte stream, in the clear or over TLS.

use std::io::{self, IoSlice, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use crate::net::Stream;

/// The stream.
#[derive(Debug)]
pub enum Channel<Io> {
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

impl Channel<Stream> {
    /// Reads arrived bytes that the runtime may not know of yet. Does not wait.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has arrived, else what is wrong with the connection.
    pub(crate) fn read_now(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (stream, session) = match self {
            Self::Clear(stream) => return stream.read_now(buffer),
            Self::Tls(tls) => match &mut **tls {
                TlsStream::Client(tls) => tls.get_mut(),
                // Only clients wait with an idle connection for their own next call.
                TlsStream::Server(_) => return Err(io::ErrorKind::WouldBlock.into()),
            },
        };
        loop {
            let read = session.reader().read(buffer);
            if !matches!(&read, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                return read;
            }
            // What arrives may be for TLS alone, such as a ticket for a later session.
            if session.read_tls(&mut Arrived(stream))? == 0 {
                return Ok(0);
            }
            session.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

/// The bytes that have arrived at a stream.
struct Arrived<'a>(&'a Stream);

impl Read for Arrived<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_now(buffer)
    }
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
