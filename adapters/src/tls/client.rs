//! Client: the TLS of connections to actor hosts, and to the receiver of traces.

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

/// The files of connections to servers.
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

/// The servers at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Servers {
    /// Hosts of actors.
    #[default]
    Hosts,
    /// A receiver of traces, which is spoken to with this protocol, as ALPN names it.
    Traces(&'static [u8]),
}

impl Servers {
    /// What their files hold.
    fn what(self) -> &'static str {
        match self {
            Self::Hosts => "host_certificates",
            Self::Traces(_) => "trace_certificates",
        }
    }

    /// What a failed handshake is told.
    fn hint(self) -> &'static str {
        match self {
            Self::Hosts => "TIDEGATE_HOST_TLS_CA names the roots of hosts' certificates",
            Self::Traces(_) => {
                "OTEL_EXPORTER_OTLP_CERTIFICATE names the roots of the receiver's certificate"
            }
        }
    }

    /// What is made of files for them.
    fn config(
        self,
        files: &ClientFiles,
        contents: &Contents,
    ) -> Result<(ClientConfig, Vec<Ending>), TlsError> {
        let (mut config, endings) = config(files, contents)?;
        if let Self::Traces(protocol) = self {
            config.alpn_protocols = vec![protocol.to_vec()];
        }
        Ok((config, endings))
    }
}

/// The TLS of connections to servers. The default is for hosts, and trusts what the system trusts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ClientTls {
    servers: Servers,
    /// What is made of the files that are set.
    watched: Option<Current<ClientConfig>>,
    /// Without files. Made for the first server that needs it: reading the roots of a system takes a while.
    system: Arc<OnceCell<Arc<ClientConfig>>>,
}

impl ClientTls {
    /// Reads the files, now and whenever they change; see [`crate::reload`].
    ///
    /// # Errors
    /// When a file cannot be read or used now.
    pub(crate) fn watch(
        servers: Servers,
        files: ClientFiles,
    ) -> Result<(Self, Option<Certificates>), TlsError> {
        let named = files.named();
        let mut tls = Self { servers, ..Self::default() };
        if named.is_empty() {
            return Ok((tls, None));
        }
        let make = move |contents: &Contents| servers.config(&files, contents);
        let (current, certificates) = watch::watch(servers.what(), named, make)?;
        tls.watched = Some(current);
        Ok((tls, Some(certificates)))
    }

    /// Makes the handshake with the server at this authority, whose certificate has to name it. Sets no deadline.
    ///
    /// # Errors
    /// When the handshake fails.
    pub(crate) async fn connect<Io>(&self, io: Io, authority: &str) -> io::Result<Channel<Io>>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let config = match &self.watched {
            Some(current) => current.get(),
            None => Arc::clone(self.system.get_or_try_init(|| system(self.servers)).await?),
        };
        handshake(config, io, authority, self.servers.hint()).await
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

async fn system(servers: Servers) -> io::Result<Arc<ClientConfig>> {
    let made = move || servers.config(&ClientFiles::default(), &Contents::default());
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
