//! Net: a byte stream over TCP or a Unix socket. One type serves for both, in servers and clients.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Prefix of a Unix socket's address; the path follows.
pub const UNIX_PREFIX: &str = "unix:";

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP client.
    Ip(IpAddr),
    /// A process on this machine, over a Unix socket.
    Local,
}

impl Peer {
    /// The address that counts: of IPv6 the /64, which is its owner's to choose an address from. `None` over a Unix socket.
    pub fn network(self) -> Option<IpAddr> {
        match self {
            Peer::Ip(address) => Some(match address.to_canonical() {
                IpAddr::V6(address) => {
                    let [a, b, c, d, ..] = address.segments();
                    IpAddr::from([a, b, c, d, 0, 0, 0, 0])
                }
                address @ IpAddr::V4(_) => address,
            }),
            Peer::Local => None,
        }
    }

    /// Whether the peer runs on this machine. Includes IPv4 addresses mapped into IPv6.
    pub fn is_loopback(self) -> bool {
        match self {
            Peer::Ip(address) => address.to_canonical().is_loopback(),
            Peer::Local => true,
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Peer::Ip(address) => address.fmt(f),
            Peer::Local => f.write_str("a local socket"),
        }
    }
}

/// A TCP or Unix stream.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP, with `TCP_NODELAY`.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
        }
    };
}

impl Stream {
    /// Connects to an authority such as `127.0.0.1:8090`, or to `unix:` and a path. Sets no deadline.
    ///
    /// # Errors
    /// When the operating system fails.
    pub async fn connect(address: &str) -> io::Result<Self> {
        match address.strip_prefix(UNIX_PREFIX) {
            Some(path) => Self::over_unix(Path::new(path)).await,
            None => Self::over_tcp(address).await,
        }
    }

    /// Connects to an authority. Sets no deadline.
    pub(crate) async fn over_tcp(authority: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        Ok(Stream::Tcp(stream))
    }

    /// Connects to a Unix socket. Sets no deadline.
    pub(crate) async fn over_unix(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).await.map(Stream::Unix)
    }

    /// Reads arrived bytes that the runtime may not know of yet. Does not wait.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has arrived, else the error of the operating system.
    pub fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(each!(self, stream => rustix::io::read(stream, buffer))?)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(&mut *self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(&mut *self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(&mut *self, stream => Pin::new(stream).poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        each!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut *self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut *self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
