//! Files: PEM files that settings name.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// Largest file. One with the roots of a whole system has about 200 KiB.
const MAX_BYTES: u64 = 1 << 20;

/// A PEM file, and the setting that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFile {
    /// The setting.
    pub setting: &'static str,
    /// Its value.
    pub path: PathBuf,
}

impl fmt::Display for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.setting, self.path.display())
    }
}

/// TLS cannot be used as it is set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or is not what it should be. The text never has a part of a key.
    #[error("{file}: {reason}")]
    Unusable {
        /// The file.
        file: PemFile,
        /// What is wrong.
        reason: String,
    },
    /// A certificate and a key do not fit each other.
    #[error("{certificate} with {key}: {reason}")]
    Unfit {
        /// The certificate.
        certificate: PemFile,
        /// Its key.
        key: PemFile,
        /// What is wrong.
        reason: String,
    },
}

/// What is in a file. Wiped when it is dropped: it may be a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    file: PemFile,
    bytes: Zeroizing<Vec<u8>>,
}

/// Files as they were at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents(Vec<Content>);

impl Contents {
    /// Reads the files. Blocks.
    pub(super) fn read(files: &[PemFile]) -> Result<Self, TlsError> {
        files.iter().map(PemFile::read).collect::<Result<_, _>>().map(Self)
    }

    /// The content of one of the files.
    pub(super) fn of(&self, file: &PemFile) -> &Content {
        let found = self.0.iter().find(|content| content.file == *file);
        found.expect("all files of a configuration are read together")
    }
}

impl PemFile {
    fn read(&self) -> Result<Content, TlsError> {
        let unreadable =
            |error: io::Error| TlsError::Unusable { file: self.clone(), reason: error.to_string() };
        let file = File::open(&self.path).map_err(unreadable)?;
        // With its final size at once: a buffer that grows leaves parts of a key behind.
        let size = file.metadata().map_err(unreadable)?.len().min(MAX_BYTES) + 1;
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0)));
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        let content = Content { file: self.clone(), bytes };
        if content.bytes.len() as u64 > MAX_BYTES {
            return Err(content.unusable("is larger than 1 MiB".into()));
        }
        Ok(content)
    }
}

impl Content {
    /// The certificates in the file, at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let certificates = read.map_err(|error| self.unusable(error.to_string()))?;
        if certificates.is_empty() {
            return Err(self.unusable("holds no certificate in PEM".into()));
        }
        Ok(certificates)
    }

    /// The first private key in the file.
    pub(super) fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| {
            self.unusable(match error {
                PemError::NoItemsFound => "holds no private key in PEM".into(),
                // The text of the error may quote the file.
                _ => "is broken PEM".into(),
            })
        })
    }

    /// The file as text.
    pub(super) fn text(&self) -> Result<&str, TlsError> {
        std::str::from_utf8(&self.bytes).map_err(|_| self.unusable("is broken PEM".into()))
    }

    /// The certificates in the file, as roots of trust.
    pub(super) fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| self.unusable(error.to_string()))?;
        }
        Ok(Arc::new(roots))
    }

    pub(super) fn unusable(&self, reason: String) -> TlsError {
        TlsError::Unusable { file: self.file.clone(), reason }
    }

    /// The setting that names the file.
    pub(super) fn setting(&self) -> &'static str {
        self.file.setting
    }
}

/// The one implementation of cryptography in the tree.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
