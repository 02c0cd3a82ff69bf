//! Listener: accepts connections over TCP, a Unix socket or a simulated network.

mod socket_file;

use std::fs::Permissions;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixSocket};

use crate::net::{Peer, Stream, UNIX_PREFIX};
use socket_file::SocketFile;

/// Connections that the operating system holds until they are accepted; tokio uses the same number for TCP.
const BACKLOG: u32 = 1024;

/// Accepts connections.
pub trait Listener: Send + 'static {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Returns the next connection. Cancel safe: a dropped future loses none.
    ///
    /// # Errors
    /// When the operating system fails. A later retry may succeed.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, Peer)>> + Send;
}

/// The listener cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// The address that was tried.
    pub address: String,
    /// The error of the operating system.
    pub source: io::Error,
}

/// A bound TCP or Unix socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket; its file is removed on drop.
    Unix(UnixListener, SocketFile),
}

impl Socket {
    /// Listens on a TCP address; port 0 lets the operating system choose.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn tcp(address: SocketAddr) -> Result<Self, BindError> {
        let bound = TcpListener::bind(address).await.map(Self::Tcp);
        bound.map_err(|source| BindError { address: address.to_string(), source })
    }

    /// Listens on a Unix socket whose file has this mode. Removes a stale socket at the path first (decision 32).
    ///
    /// The mode is set between `bind` and `listen`. Before `listen`, every connect is refused, so no client connects under
    /// another mode. The umask is not changed: it belongs to the whole process.
    ///
    /// # Errors
    /// When the path holds anything else, or the file cannot be created.
    pub async fn unix(path: &Path, mode: u32) -> Result<Self, BindError> {
        let bound = async {
            socket_file::remove_stale(path).await?;
            let socket = UnixSocket::new_stream()?;
            socket.bind(path)?;
            let file = SocketFile::new(path)?;
            std::fs::set_permissions(path, Permissions::from_mode(mode))?;
            Ok(Self::Unix(socket.listen(BACKLOG)?, file))
        };
        bound.await.map_err(|source| BindError { address: path.display().to_string(), source })
    }

    /// Whether a Unix socket could be opened at the path, as far as that shows without making its file. Changes nothing.
    ///
    /// # Errors
    /// When the path holds anything but a stale socket.
    pub async fn check_unix(path: &Path) -> Result<(), BindError> {
        let checked = socket_file::is_stale(path).await.map(drop);
        checked.map_err(|source| BindError { address: path.display().to_string(), source })
    }

    /// The address as a client writes it: `http://127.0.0.1:9001` or `unix:/path`.
    ///
    /// # Errors
    /// When the operating system does not return the address.
    pub fn url(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => Ok(format!("http://{}", listener.local_addr()?)),
            Self::Unix(_, file) => Ok(format!("{UNIX_PREFIX}{}", file.path().display())),
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
