//! Connect: opens connections to hosts.

use std::future::Future;
use std::io;
use std::time::Duration;

use tidegate_stages::actor::{Endpoint, HostAddress};
use tidegate_stages::ports::HostError;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::net::Stream;
use crate::tls::{Channel, ClientTls};

/// Opens byte streams to hosts, over the operating system's network or a simulated one.
pub trait Connect: Clone + Send + Sync + 'static {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Connects. Sets no deadline.
    fn connect(&self, address: &HostAddress) -> impl Future<Output = io::Result<Self::Io>> + Send;

    /// Reads arrived bytes that the runtime may not know of yet. Does not wait.
    ///
    /// The default is for connections in memory, which see bytes at once. A socket must read from the operating system.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has arrived, else the error of the operating system.
    fn read_now(_: &mut Self::Io, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// TCP and Unix sockets of the operating system, TCP also with TLS.
#[derive(Debug, Clone, Default)]
pub struct SystemConnector {
    tls: ClientTls,
}

impl SystemConnector {
    /// Connects with this TLS where the address asks for TLS.
    pub fn new(tls: ClientTls) -> Self {
        Self { tls }
    }
}

impl Connect for SystemConnector {
    type Io = Channel<Stream>;

    async fn connect(&self, address: &HostAddress) -> io::Result<Channel<Stream>> {
        match address.endpoint() {
            Endpoint::Http(authority) => Stream::over_tcp(authority).await.map(Channel::Clear),
            Endpoint::Unix(path) => Stream::over_unix(path).await.map(Channel::Clear),
            Endpoint::Https(authority) => {
                let stream = Stream::over_tcp(authority).await?;
                // Boxed: the handshake is large, and other connections have none.
                Box::pin(self.tls.connect(stream, authority)).await
            }
        }
    }

    fn read_now(io: &mut Channel<Stream>, buffer: &mut [u8]) -> io::Result<usize> {
        io.read_now(buffer)
    }
}

/// Connects within `limit`.
pub(super) async fn connect<C: Connect>(
    connector: &C,
    address: &HostAddress,
    limit: Duration,
) -> Result<C::Io, HostError> {
    let failed = |reason: String| HostError::Connect { address: address.to_string(), reason };
    match tokio::time::timeout(limit, connector.connect(address)).await {
        Ok(Ok(io)) => Ok(io),
        Ok(Err(error)) => Err(failed(explained(&error))),
        Err(_) => Err(failed(format!("no connection within {limit:?}"))),
    }
}

/// Returns the text of the error, with a hint when the connection was refused (decision 28).
fn explained(error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::ConnectionRefused && error.kind() != io::ErrorKind::NotFound {
        return error.to_string();
    }
    format!(
        "{error}: nothing listens there; USER_FUNCTION_HOST and USER_FUNCTION_PORT say where the host listens, and SDKs listen on \
         8090 (Node), 8091 (Python), 8093 (Rust) or a port of the program's choice (Go) unless told otherwise"
    )
}
