//! Listener: where connections come from: TCP, a Unix socket, or a simulated network.

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

/// Connections that the operating system keeps until they are accepted; tokio's own number for TCP.
const BACKLOG: u32 = 1024;

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
    Unix(UnixListener, SocketFile),
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

    /// Listens on a Unix socket whose file has this mode. A socket that nobody listens on is removed first (decision 32).
    ///
    /// The mode is set between `bind` and `listen`: until then every client is refused, so none connects under another mode. The
    /// umask, which `bind` applies, belongs to the whole process and stays as it is.
    ///
    /// # Errors
    /// When anything else is at the path, or the file cannot be made.
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

    /// The address as a client would write it: `http://127.0.0.1:9001`, or `unix:/path`.
    ///
    /// # Errors
    /// When the operating system does not know it any more.
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
