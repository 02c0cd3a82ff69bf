//! Database: the certificate that the proxy shows to a database.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use tracing::warn;

use super::certificate::Ending;
use super::client::Pair;
use super::files::{Contents, TlsError};

/// The certificate that the proxy shows to a database. It is read anew for each connection, of which there are few.
#[derive(Debug)]
pub(crate) struct ShownToDatabase {
    pair: Pair,
    /// The last that could be used.
    usable: Mutex<Arc<CertifiedKey>>,
}

impl ShownToDatabase {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be read or used.
    pub(crate) fn load(pair: Pair) -> Result<Self, TlsError> {
        let (certified, ending) = read(&pair)?;
        ending.tell();
        Ok(Self { pair, usable: Mutex::new(Arc::new(certified)) })
    }
}

fn read(pair: &Pair) -> Result<(CertifiedKey, Ending), TlsError> {
    pair.certified(&Contents::read(&[pair.certificate.clone(), pair.key.clone()])?)
}

impl ResolvesClientCert for ShownToDatabase {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        match read(&self.pair) {
            Ok((certified, _)) => *self.usable.lock() = Arc::new(certified),
            Err(error) => warn!(%error, "not usable: the database is shown the former certificate"),
        }
        Some(Arc::clone(&self.usable.lock()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
