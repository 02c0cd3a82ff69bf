//! Files: PEM files that settings name.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

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
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{file}: {source}")]
    Unreadable {
        /// The file.
        file: PemFile,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file is not what it should be. The text never has a part of a key.
    #[error("{file}: {reason}")]
    Unusable {
        /// The file.
        file: PemFile,
        /// What is wrong.
        reason: String,
    },
    /// The files do not fit each other, or rustls does not take them.
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
#[derive(Debug)]
pub(super) struct Content<'a> {
    file: &'a PemFile,
    bytes: Zeroizing<Vec<u8>>,
}

impl PemFile {
    /// Reads the file.
    pub(super) fn read(&self) -> Result<Content<'_>, TlsError> {
        match std::fs::read(&self.path) {
            Ok(bytes) => Ok(Content { file: self, bytes: Zeroizing::new(bytes) }),
            Err(source) => Err(TlsError::Unreadable { file: self.clone(), source }),
        }
    }
}

impl Content<'_> {
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

    pub(super) fn file(&self) -> &PemFile {
        self.file
    }
}

/// The one implementation of cryptography in the tree.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
