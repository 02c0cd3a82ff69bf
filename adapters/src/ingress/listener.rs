//! Listener: where connections come from: TCP, a Unix socket, or a simulated network.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::net::{Peer, Stream, UNIX_PREFIX};

/// Accepts connections.
pub trait Listener: Send + 'static {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection. Dropping the future loses none.
    ///
    /// # Errors
    /// When the operating system refuses; trying again later is right.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, Peer)>> + Send;
}

/// Why a listener could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// Where it was tried.
    pub address: String,
    /// What the operating system said.
    pub source: io::Error,
}

/// A bound TCP or Unix socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket, whose file is removed when it is dropped.
    Unix(UnixListener, PathBuf),
}

impl Socket {
    /// Listens on a TCP address; port 0 lets the operating system choose.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn tcp(address: SocketAddr) -> Result<Self, BindError> {
        let bound = TcpListener::bind(address).await.map(Self::Tcp);
        bound.map_err(|source| BindError { address: address.to_string(), source })
    }

    /// Listens on a Unix socket; a file left behind is removed if nobody listens on it (decision 32).
    ///
    /// # Errors
    /// When somebody does, or the file cannot be made.
    pub async fn unix(path: &Path) -> Result<Self, BindError> {
        let bound = async {
            match UnixStream::connect(path).await {
                Ok(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::AddrInUse,
                        "another process listens on it",
                    ));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    tracing::info!(path = %path.display(), "stale socket file removed");
                    std::fs::remove_file(path)?;
                }
                Err(_) => {}
            }
            UnixListener::bind(path)
        };
        let bound = bound.await.map(|listener| Self::Unix(listener, path.to_owned()));
        bound.map_err(|source| BindError { address: path.display().to_string(), source })
    }

    /// The address as a client would write it: `http://127.0.0.1:9001`, or `unix:/path`.
    ///
    /// # Errors
    /// When the operating system does not know it any more.
    pub fn url(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => Ok(format!("http://{}", listener.local_addr()?)),
            Self::Unix(_, path) => Ok(format!("{UNIX_PREFIX}{}", path.display())),
        }
    }
}

impl Listener for Socket {
    type Io = Stream;

    async fn accept(&mut self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Peer::Ip(address.ip())))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::Local))
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self
            && let Err(error) = std::fs::remove_file(&*path)
        {
            tracing::warn!(path = %path.display(), %error, "socket file not removed");
        }
    }
}
