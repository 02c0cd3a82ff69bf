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
use crate::tls::ShownToDatabase;

/// Returns the TLS configuration of connections. Reads files.
pub(super) fn config(tls: &Tls) -> Result<Arc<ClientConfig>, CqlOpenError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(wrong)?;
    let builder = if tls.verify {
        builder.with_root_certificates(roots(tls)?)
    } else {
        warn!("PROXY_DATABASE_SSL_VERIFY=false: any server is taken for the database");
        let anybody = Arc::new(AnyCertificate(provider));
        builder.dangerous().with_custom_certificate_verifier(anybody)
    };
    let config = match tls.shown.clone().map(ShownToDatabase::load).transpose() {
        Ok(None) => builder.with_no_client_auth(),
        Ok(Some(shown)) => builder.with_client_cert_resolver(Arc::new(shown)),
        Err(error) => return Err(CqlOpenError::Tls(error.to_string())),
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rcgen::{CertificateParams, Issuer, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::server::WebPkiClientVerifier;
    use tokio::io::duplex;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::tls::{Pair, PemFile};

    struct Authority(Issuer<'static, KeyPair>, CertificateDer<'static>);

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let root = params.self_signed(&key).unwrap().der().clone();
            Self(Issuer::new(params, key), root)
        }

        fn issue(&self) -> (rcgen::Certificate, KeyPair) {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["database".into()]).unwrap();
            (params.signed_by(&key, &self.0).unwrap(), key)
        }

        fn put(&self, pair: &Pair) -> Vec<u8> {
            let (certificate, key) = self.issue();
            std::fs::write(&pair.certificate.path, certificate.pem()).unwrap();
            std::fs::write(&pair.key.path, key.serialize_pem()).unwrap();
            certificate.der().to_vec()
        }
    }

    /// A node that wants a certificate: the one that it is shown.
    async fn shown(client: &Arc<ClientConfig>, node: &Arc<ServerConfig>) -> Vec<u8> {
        let (near, far) = duplex(1 << 16);
        let name = ServerName::try_from("database").unwrap();
        let connecting = TlsConnector::from(client.clone()).connect(name, near);
        let accepting = TlsAcceptor::from(node.clone()).accept(far);
        let (_connected, accepted) = tokio::try_join!(connecting, accepting).unwrap();
        accepted.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    fn node(authority: &Authority) -> Arc<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(authority.1.clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let (certificate, key) = authority.issue();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_client_cert_verifier(verifier.build().unwrap());
        Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap())
    }

    #[tokio::test]
    async fn a_node_is_shown_the_certificate_as_the_file_is_now() {
        let directory = tempfile::tempdir().unwrap();
        let in_it = |name: &str| directory.path().join(name);
        let file = |setting, path: &Path| PemFile { setting, path: path.into() };
        let pair = Pair {
            certificate: file("TIDEGATE_DATABASE_CERT", &in_it("client.pem")),
            key: file("TIDEGATE_DATABASE_KEY", &in_it("client.key")),
        };
        let authority = Authority::new();
        let node = node(&authority);
        let tls = Tls { verify: false, ca: None, shown: Some(pair.clone()) };
        let missing = config(&tls).unwrap_err().to_string();
        assert!(missing.contains("TIDEGATE_DATABASE_CERT"), "{missing}");

        let first = authority.put(&pair);
        let client = config(&tls).unwrap();
        assert_eq!(shown(&client, &node).await, first);
        let second = authority.put(&pair);
        assert_eq!(shown(&client, &node).await, second);
        std::fs::write(&pair.certificate.path, "rubbish").unwrap();
        assert_eq!(shown(&client, &node).await, second, "the last that could be used");
    }
}
