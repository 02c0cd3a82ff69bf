//! Connect: opens connections to hosts.

use std::future::Future;
use std::io;
use std::time::Duration;

use tidegate_stages::actor::{Endpoint, HostAddress};
use tidegate_stages::ports::HostError;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::net::Stream;

/// Why no host is called over TLS.
pub(crate) const NO_TLS: &str =
    "TLS to actor hosts is not built yet: let the host listen at http:// or unix:";

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
    fn read_now(_: &Self::Io, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// TCP and Unix sockets of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemConnector;

impl Connect for SystemConnector {
    type Io = Stream;

    async fn connect(&self, address: &HostAddress) -> io::Result<Stream> {
        match address.endpoint() {
            Endpoint::Http(authority) => Stream::over_tcp(authority).await,
            Endpoint::Unix(path) => Stream::over_unix(path).await,
            Endpoint::Https(_) => Err(io::Error::new(io::ErrorKind::Unsupported, NO_TLS)),
        }
    }

    fn read_now(io: &Stream, buffer: &mut [u8]) -> io::Result<usize> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_over_tls_is_not_connected_to_in_the_clear() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let address = HostAddress::new(&format!("https://{authority}"));
        let limit = Duration::from_secs(10);
        let error = connect(&SystemConnector, &address, limit).await.unwrap_err().to_string();
        assert!(error.contains(&authority) && error.contains(NO_TLS), "{error}");
    }
}
