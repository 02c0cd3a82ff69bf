//! Server: the TLS of the ingress.

use std::sync::Arc;
use std::time::Duration;

use ::metrics::counter;
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsStream};
use tracing::debug;

use super::certificate::{self, Ending};
use super::channel::Channel;
use super::files::{Contents, PemFile, TlsError, provider};
use super::watch::{self, Certificates, Current};
use crate::metrics::HANDSHAKES_FAILED_TOTAL;

/// What a client without a certificate may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// What any client may.
    Optional,
    /// Ask for health and metrics, nothing else.
    Required,
}

/// The files of the ingress, and which clients it lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// Its certificate, with those between it and the root.
    pub certificate: PemFile,
    /// The key of the certificate.
    pub key: PemFile,
    /// Whose certificates clients may show. `None`: clients are not asked for one.
    pub clients: Option<(PemFile, ClientAuth)>,
}

impl ServerFiles {
    /// All that are set.
    pub(super) fn named(&self) -> Vec<PemFile> {
        let named = [&self.certificate, &self.key].into_iter();
        named.chain(self.clients.iter().map(|(file, _)| file)).cloned().collect()
    }
}

/// The TLS of the ingress. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ServerTls {
    config: Current<ServerConfig>,
    client_auth: ClientAuth,
}

impl ServerTls {
    /// Reads the files, now and whenever they change; see [`crate::reload`].
    ///
    /// # Errors
    /// When a file cannot be read or used now.
    pub(crate) fn watch(files: ServerFiles) -> Result<(Self, Certificates), TlsError> {
        let client_auth = files.clients.as_ref().map_or(ClientAuth::Optional, |(_, auth)| *auth);
        let named = files.named();
        let make = move |contents: &Contents| config(&files, contents);
        let (config, certificates) = watch::watch("certificates", named, make)?;
        Ok((Self { config, client_auth }, certificates))
    }

    /// What a client without a certificate may do.
    pub(crate) fn client_auth(&self) -> ClientAuth {
        self.client_auth
    }

    /// Makes the handshake with a client, within `limit`. Returns the name in its certificate, if it shows one.
    ///
    /// `None`: the handshake failed; the client was told, and the failure is counted.
    pub(crate) async fn accept<Io>(
        &self,
        io: Io,
        limit: Duration,
    ) -> Option<(Channel<Io>, Option<Arc<str>>)>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.config.get());
        let failed = |reason| counter!(HANDSHAKES_FAILED_TOTAL, "reason" => reason).increment(1);
        match timeout(limit, acceptor.accept(io)).await {
            Ok(Ok(tls)) => {
                let shown = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let name = shown.and_then(certificate::name);
                Some((Channel::Tls(Box::new(TlsStream::Server(tls))), name))
            }
            Ok(Err(error)) => {
                debug!(%error, "TLS handshake failed");
                failed("refused");
                None
            }
            Err(_) => {
                failed("late");
                None
            }
        }
    }
}

pub(super) fn config(
    files: &ServerFiles,
    contents: &Contents,
) -> Result<(ServerConfig, Vec<Ending>), TlsError> {
    let (certificate, key) = (contents.of(&files.certificate), contents.of(&files.key));
    let unfit = |error: rustls::Error| TlsError::Unfit {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        reason: error.to_string(),
    };
    let chain = certificate.certificates()?;
    let mut endings = vec![Ending::of(certificate, &chain)?];
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(unfit)?;
    let builder = match &files.clients {
        None => builder.with_no_client_auth(),
        Some((file, _)) => {
            let content = contents.of(file);
            endings.push(Ending::of(content, &content.certificates()?)?);
            // A client without a certificate is let in, also where one is required: the ingress answers it on health and
            // metrics, and refuses the rest in words.
            let verifier =
                WebPkiClientVerifier::builder_with_provider(content.roots()?, provider())
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| content.unusable(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key.key()?).map_err(unfit)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if files.clients.is_some() {
        // A resumed session shows no certificate again: one that has ended meanwhile would still be taken.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok((config, endings))
}
