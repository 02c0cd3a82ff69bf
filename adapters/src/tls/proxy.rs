//! Proxy: the TLS of commands that ask a running proxy.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};

use super::channel::Channel;
use super::client::{ClientFiles, config, handshake};
use super::files::{Contents, PemFile, TlsError, provider};

/// What a failed handshake is told.
const HINT: &str = "TIDEGATE_PROXY_TLS_CA names the roots of the proxy's certificate";

/// The TLS of commands.
#[derive(Debug)]
pub(crate) struct ProxyTls(Arc<ClientConfig>);

impl ProxyTls {
    /// Reads the files. `own`: the certificate of the proxy beside the command. No other one is taken then, and it counts
    /// whatever names it has and whoever has signed it.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub(crate) fn new(files: &ClientFiles, own: Option<&PemFile>) -> Result<Self, TlsError> {
        let roots = own.or(files.roots.as_ref()).cloned();
        let files = ClientFiles { roots, shown: files.shown.clone() };
        let contents = Contents::read(&files.named())?;
        let (mut config, _) = config(&files, &contents)?;
        if let Some(own) = own {
            let content = contents.of(own);
            let shown = content.certificates()?.into_iter().next();
            let shown = shown.ok_or_else(|| content.unusable("holds no certificate".into()))?;
            let algorithms = provider().signature_verification_algorithms;
            let own = Arc::new(Own { certificate: shown, algorithms });
            config.dangerous().set_certificate_verifier(own);
        }
        Ok(Self(Arc::new(config)))
    }

    /// Makes the handshake with the proxy at this authority. Sets no deadline.
    ///
    /// # Errors
    /// When the handshake fails.
    pub(crate) async fn connect<Io>(&self, io: Io, authority: &str) -> io::Result<Channel<Io>>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        handshake(Arc::clone(&self.0), io, authority, HINT).await
    }
}

/// Takes one certificate only. Whoever shows it has to have its key: the signatures of the handshake are checked.
#[derive(Debug)]
struct Own {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Own {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *shown == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General("the certificate is not the one in TIDEGATE_TLS_CERT".into()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, shown, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, shown, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
