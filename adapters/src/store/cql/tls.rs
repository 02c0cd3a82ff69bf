//! TLS: encryption to the database, with rustls.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tracing::warn;

use super::error::CqlOpenError;
use crate::store::cql_options::Tls;

/// Returns the TLS configuration of connections. Reads files.
pub(super) fn config(tls: &Tls) -> Result<Arc<ClientConfig>, CqlOpenError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(wrong)?;
    let config = if tls.verify {
        builder.with_root_certificates(roots(tls)?).with_no_client_auth()
    } else {
        warn!("PROXY_DATABASE_SSL_VERIFY=false: any server is taken for the database");
        let anybody = Arc::new(AnyCertificate(provider));
        builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
    };
    Ok(Arc::new(config))
}

fn roots(tls: &Tls) -> Result<RootCertStore, CqlOpenError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &tls.ca {
        let named = |error| CqlOpenError::Tls(format!("{}: {error}", path.display()));
        for certificate in CertificateDer::pem_file_iter(path).map_err(named)? {
            roots.add(certificate.map_err(named)?).map_err(wrong)?;
        }
        if roots.is_empty() {
            return Err(CqlOpenError::Tls(format!("{} holds no certificate", path.display())));
        }
    } else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(CqlOpenError::Tls("this system trusts no certificate".into()));
        }
    }
    Ok(roots)
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function over errors")]
fn wrong(error: rustls::Error) -> CqlOpenError {
    CqlOpenError::Tls(error.to_string())
}

/// Accepts any certificate; used only with `PROXY_DATABASE_SSL_VERIFY=false`.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
