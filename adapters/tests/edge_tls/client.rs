//! A caller over TLS with rustls: it sees the certificate that it was shown.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::client::Client;

/// Whom callers trust.
#[derive(Clone)]
pub(crate) struct Trust(TlsConnector);

impl Trust {
    /// The root in this file, and no other.
    pub(crate) fn in_root(path: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(path).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        // Each connection makes a whole handshake.
        config.resumption = rustls::client::Resumption::disabled();
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// Connects; also returns the server's certificate.
    pub(crate) async fn connect(&self, address: &str) -> std::io::Result<(Client, Vec<u8>)> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").unwrap();
        let tls = self.0.connect(name, stream).await?;
        let shown = tls.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        Ok((Client::over(tls).await.unwrap(), shown))
    }
}
