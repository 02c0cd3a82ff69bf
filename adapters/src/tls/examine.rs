//! Examine: what is in the files of TLS, without using them.

use std::time::Duration;

use super::certificate::{self, Facts, SOON};
use super::client::Pair;
use super::files::{Content, Contents, PemFile, TlsError};
use super::server::{self, ServerFiles};

/// What a file of certificates holds.
#[derive(Debug)]
pub(crate) struct Examined {
    pub(crate) file: PemFile,
    /// The DNS names and IP addresses in its first certificate.
    pub(crate) servers: Vec<String>,
    /// The name that a client has who shows it.
    pub(crate) client: Option<String>,
    /// The latest time from which its certificates hold, since the Unix epoch.
    pub(crate) begin: Duration,
    /// The earliest time until which they hold.
    pub(crate) end: Duration,
}

/// How near the end of a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It does not hold yet.
    Early,
    /// It holds.
    Holds,
    /// It holds for less than 30 days.
    EndsSoon,
    /// It has ended.
    Ended,
}

impl Examined {
    /// Its standing at this time since the Unix epoch.
    pub(crate) fn standing(&self, now: Duration) -> Standing {
        if self.end <= now {
            Standing::Ended
        } else if self.begin > now {
            Standing::Early
        } else if self.end.saturating_sub(now) <= SOON {
            Standing::EndsSoon
        } else {
            Standing::Holds
        }
    }

    fn of(file: &PemFile, content: &Content) -> Result<Self, TlsError> {
        let all = content.certificates()?;
        let facts = all.iter().map(Facts::of).collect::<Option<Vec<_>>>();
        let facts = facts.ok_or_else(|| content.unusable("a certificate is broken".into()))?;
        let begin = facts.iter().map(|facts| facts.begin).max().unwrap_or_default();
        let end = facts.iter().map(|facts| facts.end).min().unwrap_or_default();
        let client = all.first().and_then(certificate::name).map(|name| name.to_string());
        let servers = facts.into_iter().next().map(|facts| facts.names).unwrap_or_default();
        Ok(Self { file: file.clone(), servers, client, begin, end })
    }
}

/// The certificate of the port, whose key fits, and the roots of its clients.
///
/// # Errors
/// When a start would fail.
pub(crate) fn server(files: &ServerFiles) -> Result<Vec<Examined>, TlsError> {
    let contents = Contents::read(&files.named())?;
    server::config(files, &contents)?;
    let roots = files.clients.iter().map(|(file, _)| file);
    let all = std::iter::once(&files.certificate).chain(roots);
    all.map(|file| Examined::of(file, contents.of(file))).collect()
}

/// A certificate that is shown, whose key fits.
///
/// # Errors
/// When it cannot be used.
pub(crate) fn shown(pair: &Pair) -> Result<Examined, TlsError> {
    let contents = Contents::read(&[pair.certificate.clone(), pair.key.clone()])?;
    pair.certified(&contents)?;
    Examined::of(&pair.certificate, contents.of(&pair.certificate))
}

/// Roots that others have to be signed by.
///
/// # Errors
/// When they cannot be used.
pub(crate) fn roots(file: &PemFile) -> Result<Examined, TlsError> {
    let contents = Contents::read(std::slice::from_ref(file))?;
    contents.of(file).roots()?;
    Examined::of(file, contents.of(file))
}
