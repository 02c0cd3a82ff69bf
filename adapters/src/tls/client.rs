//! Client: the TLS of connections to actor hosts.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio_rustls::{TlsConnector, TlsStream};

use super::certificate::Ending;
use super::channel::Channel;
use super::files::{Contents, PemFile, TlsError, provider};
use super::watch::{self, Certificates, Current};

/// A certificate that is shown, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, with those between it and the root.
    pub certificate: PemFile,
    /// Its key.
    pub key: PemFile,
}

impl Pair {
    pub(super) fn certified(
        &self,
        contents: &Contents,
    ) -> Result<(CertifiedKey, Ending), TlsError> {
        let certificate = contents.of(&self.certificate);
        let chain = certificate.certificates()?;
        let ending = Ending::of(certificate, &chain)?;
        let key = contents.of(&self.key).key()?;
        let certified = CertifiedKey::from_der(chain, key, &provider());
        let certified = certified.map_err(|error| TlsError::Unfit {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            reason: error.to_string(),
        })?;
        Ok((certified, ending))
    }
}

/// The files of connections to hosts, or of commands to the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientFiles {
    /// The roots of the certificates of servers. `None`: those that the system trusts.
    pub roots: Option<PemFile>,
    /// What is shown to servers that ask.
    pub shown: Option<Pair>,
}

impl ClientFiles {
    /// All that are set.
    pub(super) fn named(&self) -> Vec<PemFile> {
        let pair = self.shown.iter().flat_map(|pair| [&pair.certificate, &pair.key]);
        self.roots.iter().chain(pair).cloned().collect()
    }
}

/// The TLS of connections to hosts. The default trusts what the system trusts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ClientTls {
    /// What is made of the files that are set.
    watched: Option<Current<ClientConfig>>,
    /// Without files. Made for the first host that needs it: reading the roots of a system takes a while.
    system: Arc<OnceCell<Arc<ClientConfig>>>,
}

impl ClientTls {
    /// Reads the files, now and whenever they change; see [`crate::reload`].
    ///
    /// # Errors
    /// When a file cannot be read or used now.
    pub(crate) fn watch(files: ClientFiles) -> Result<(Self, Option<Certificates>), TlsError> {
        let named = files.named();
        if named.is_empty() {
            return Ok((Self::default(), None));
        }
        let make = move |contents: &Contents| config(&files, contents);
        let (current, certificates) = watch::watch("host_certificates", named, make)?;
        Ok((Self { watched: Some(current), system: Arc::default() }, Some(certificates)))
    }

    /// Makes the handshake with the host at this authority, whose certificate has to name it. Sets no deadline.
    ///
    /// # Errors
    /// When the handshake fails.
    pub(crate) async fn connect<Io>(&self, io: Io, authority: &str) -> io::Result<Channel<Io>>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let config = match &self.watched {
            Some(current) => current.get(),
            None => Arc::clone(self.system.get_or_try_init(system).await?),
        };
        let hint = "TIDEGATE_HOST_TLS_CA names the roots of hosts' certificates";
        handshake(config, io, authority, hint).await
    }
}

impl ClientFiles {
    /// What is made of the files, which are read now. Blocks. For connections that do not speak HTTP.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub(crate) fn read(&self) -> Result<ClientConfig, TlsError> {
        let (mut config, _) = config(self, &Contents::read(&self.named())?)?;
        config.alpn_protocols.clear();
        Ok(config)
    }
}

/// Makes the handshake with the server at this authority; its failure has a hint.
pub(super) async fn handshake<Io>(
    config: Arc<ClientConfig>,
    io: Io,
    authority: &str,
    hint: &str,
) -> io::Result<Channel<Io>>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let authority: http::uri::Authority = authority.parse().map_err(io::Error::other)?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let tls = TlsConnector::from(config).connect(name, io).await;
    let tls = tls.map_err(|error| io::Error::new(error.kind(), format!("TLS: {error}; {hint}")))?;
    Ok(Channel::Tls(Box::new(TlsStream::Client(tls))))
}

async fn system() -> io::Result<Arc<ClientConfig>> {
    let made = || config(&ClientFiles::default(), &Contents::default());
    let made = tokio::task::spawn_blocking(made).await.map_err(io::Error::other)?;
    Ok(Arc::new(made.map_err(io::Error::other)?.0))
}

pub(super) fn config(
    files: &ClientFiles,
    contents: &Contents,
) -> Result<(ClientConfig, Vec<Ending>), TlsError> {
    let mut endings = Vec::new();
    let roots = if let Some(file) = &files.roots {
        let content = contents.of(file);
        endings.push(Ending::of(content, &content.certificates()?)?);
        content.roots()?
    } else {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    };
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    let mut config = match &files.shown {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let (certified, ending) = pair.certified(contents)?;
            endings.push(ending);
            let shown = rustls::sign::SingleCertAndKey::from(certified);
            builder.with_client_cert_resolver(Arc::new(shown))
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config, endings))
}
