//! Bootstrap: a certificate authority in a directory, and certificates of it for the proxy and a client.
//!
//! The authority is never written over, nor is a file of anybody else. A certificate of it is written anew when two thirds of
//! its life are over. It is written before its key, so after a crash in between, a certificate that is known as one of the
//! authority lacks its key, and is written anew.

mod error;

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::NamedTempFile;
use tidegate_stages::state::Timestamp;

pub(crate) use error::BootstrapError;

use super::certificate::Facts;
use super::client::Pair;
use super::files::{Contents, PemFile, TlsError};
use crate::moment;

const DAY: Duration = Duration::from_hours(24);
/// Life of an authority.
const AUTHORITY_DAYS: u32 = 3650;
/// What is written holds from this time before now: clocks differ.
const SKEW: Duration = Duration::from_hours(1);
/// Longest common name (RFC 5280).
pub(crate) const MAX_COMMON_BYTES: usize = 64;
/// Names of a server when nobody says any.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// The name of a client when nobody says any.
const CLIENT: &str = "client";

/// What to make.
#[derive(Debug, Clone)]
pub(crate) struct Bootstrap {
    /// Where.
    pub(crate) dir: PathBuf,
    /// Names and addresses of the server. Empty: those that it has, or those of this machine's loopback.
    pub(crate) names: Vec<String>,
    /// The name of the client. `None`: the one that it has, or else `client`.
    pub(crate) client: Option<String>,
    /// Life of a certificate, in days.
    pub(crate) days: u32,
    /// The time, since the Unix epoch.
    pub(crate) now: Duration,
}

/// The authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    end: Duration,
}

impl Bootstrap {
    /// Makes what is missing and renews what has to be renewed; says in a line of each file what was done.
    pub(crate) fn run(&self) -> Result<Vec<String>, BootstrapError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
        made.map_err(|source| io_error(&self.dir, source))?;
        let (authority, of_authority) = self.authority()?;
        let server = self.leaf("server", Whose::Server, &authority)?;
        let client = self.leaf("client", Whose::Client(self.client.as_deref()), &authority)?;
        let synced = File::open(&self.dir).and_then(|dir| dir.sync_all());
        synced.map_err(|source| io_error(&self.dir, source))?;
        Ok(vec![of_authority, server, client])
    }

    fn pair(&self, name: &str) -> Pair {
        let file = |end| PemFile { setting: "file", path: self.dir.join(format!("{name}.{end}")) };
        Pair { certificate: file("pem"), key: file("key") }
    }

    /// The authority as it is, or a new one.
    fn authority(&self) -> Result<(Authority, String), BootstrapError> {
        let pair = self.pair("ca");
        if !is_there(&pair)? {
            let mut params = self.params(&format!("tidegate CA {:08x}", rand::random::<u32>()));
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let end = self.now + DAY * AUTHORITY_DAYS;
            params.not_after = rcgen::date_time_ymd(1970, 1, 1) + whole(end);
            let key = KeyPair::generate()?;
            let certificate = params.self_signed(&key)?;
            self.put(&pair, &certificate.pem(), &key, Over::Nothing)?;
            let said = format!("ca.pem: written, ends {}", day(end));
            let der = certificate.der().clone();
            return Ok((Authority { issuer: Issuer::new(params, key), der, end }, said));
        }
        let contents = read(&pair)?;
        pair.certified(&contents).map_err(|error| unusable(&error))?;
        let der =
            contents.of(&pair.certificate).certificates().map_err(|error| unusable(&error))?;
        let der = der.into_iter().next().expect("a file of certificates has one");
        let end = facts(&pair, &der)?.end;
        if self.now >= end {
            let text = format!("ca.pem has ended on {}: make another directory", day(end));
            return Err(BootstrapError::Unusable(text));
        }
        let key = contents.of(&pair.key).text();
        let key = KeyPair::from_pem(key.map_err(|error| unusable(&error))?)?;
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        let mut said = format!("ca.pem: kept, ends {}", day(end));
        if self.now + DAY * self.days > end {
            said += ": soon everybody needs the ca.pem of another directory";
        }
        Ok((Authority { issuer, der, end }, said))
    }

    /// Keeps or writes a certificate.
    fn leaf(
        &self,
        file: &str,
        whose: Whose<'_>,
        authority: &Authority,
    ) -> Result<String, BootstrapError> {
        let pair = self.pair(file);
        let there = if is_there(&pair)? { Some(self.inspect(&pair, authority)?) } else { None };
        let given =
            self.names.iter().map(|name| server_name(name)).collect::<Result<Vec<_>, _>>()?;
        let names = match (whose, &there) {
            (Whose::Client(_), _) => Vec::new(),
            (Whose::Server, Some(Found { names, .. })) if given.is_empty() => names.clone(),
            (Whose::Server, None) if given.is_empty() => LOCAL.map(String::from).to_vec(),
            (Whose::Server, _) => given,
        };
        let former = there.as_ref().and_then(|found| found.common.as_deref());
        let first = names.first().filter(|name| name.len() <= MAX_COMMON_BYTES);
        let common = match whose {
            Whose::Client(name) => name.or(former).unwrap_or(CLIENT),
            Whose::Server => first.map_or("server", String::as_str),
        };
        let done = match &there {
            Some(found) if found.names == names && found.common.as_deref() == Some(common) => {
                if !found.is_due {
                    return Ok(format!("{file}.pem: kept, ends {}", day(found.end)));
                }
                "renewed"
            }
            Some(_) => "written for other names",
            None => "written",
        };
        let mut params = self.params(common);
        for name in &names {
            let parsed = CertificateParams::new(vec![name.clone()])?;
            params.subject_alt_names.extend(parsed.subject_alt_names);
        }
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match whose {
            Whose::Client(_) => ExtendedKeyUsagePurpose::ClientAuth,
            Whose::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        let end = (self.now + DAY * self.days).min(authority.end);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + whole(end);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority.issuer)?;
        self.put(&pair, &certificate.pem(), &key, Over::Former)?;
        let subject = if names.is_empty() { common.to_owned() } else { names.join(", ") };
        Ok(format!("{file}.pem: {done}, for {subject}, ends {}", day(end)))
    }

    /// What is known of a certificate that is there. It has to be one of the authority.
    fn inspect(&self, pair: &Pair, authority: &Authority) -> Result<Found, BootstrapError> {
        let contents = Contents::read(std::slice::from_ref(&pair.certificate));
        let contents = contents.map_err(|error| unusable(&error))?;
        let chain = contents.of(&pair.certificate).certificates();
        let chain = chain.map_err(|error| unusable(&error))?;
        let der = chain.first().expect("a file of certificates has one");
        let facts = facts(pair, der)?;
        if !Facts::is_signed_by(der, &authority.der) {
            let path = pair.certificate.path.display();
            let text = format!("{path} is not of the authority beside it: move it away");
            return Err(BootstrapError::Unusable(text));
        }
        let life = facts.end.saturating_sub(facts.begin);
        let has_key = read(pair).is_ok_and(|contents| pair.certified(&contents).is_ok());
        Ok(Found {
            is_due: !has_key || self.now.saturating_sub(facts.begin) * 3 >= life * 2,
            names: facts.names,
            common: facts.common,
            end: facts.end,
        })
    }

    fn params(&self, common: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common);
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + whole(self.now.saturating_sub(SKEW));
        params
    }

    /// Writes a certificate, then its key. A file is there whole or not at all.
    fn put(
        &self,
        pair: &Pair,
        certificate: &str,
        key: &KeyPair,
        over: Over,
    ) -> Result<(), BootstrapError> {
        let key = zeroize::Zeroizing::new(key.serialize_pem());
        let files = [(&pair.certificate, certificate, 0o644), (&pair.key, key.as_str(), 0o600)];
        for (PemFile { path, .. }, text, mode) in files {
            let written = || {
                let mut file = NamedTempFile::new_in(&self.dir)?;
                file.write_all(text.as_bytes())?;
                file.as_file().set_permissions(Permissions::from_mode(mode))?;
                file.as_file().sync_all()?;
                match over {
                    Over::Nothing => file.persist_noclobber(path)?,
                    Over::Former => file.persist(path)?,
                };
                Ok(())
            };
            written().map_err(|source| io_error(path, source))?;
        }
        Ok(())
    }
}

/// Who shows a certificate.
#[derive(Clone, Copy)]
enum Whose<'a> {
    Server,
    /// A client, with the name that was given for it.
    Client(Option<&'a str>),
}

/// What may be written over.
#[derive(Clone, Copy)]
enum Over {
    Nothing,
    Former,
}

/// A certificate of the authority.
struct Found {
    names: Vec<String>,
    common: Option<String>,
    end: Duration,
    /// Whether it is to be written anew.
    is_due: bool,
}

/// A DNS name, which may begin with `*.`, or an IP address, as a certificate has it.
fn server_name(given: &str) -> Result<String, BootstrapError> {
    let name = given.to_ascii_lowercase();
    match ServerName::try_from(name.strip_prefix("*.").unwrap_or(&name)) {
        Ok(ServerName::DnsName(_)) => Ok(name),
        Ok(ServerName::IpAddress(address)) => Ok(std::net::IpAddr::from(address).to_string()),
        _ => Err(BootstrapError::Name(given.to_owned())),
    }
}

/// Whether a certificate is there. A key without a certificate is somebody else's.
fn is_there(pair: &Pair) -> Result<bool, BootstrapError> {
    let exists = |path: &Path| path.try_exists().map_err(|source| io_error(path, source));
    let (certificate, key) = (&pair.certificate.path, &pair.key.path);
    match (exists(certificate)?, exists(key)?) {
        (false, true) => {
            let (certificate, key) = (certificate.display(), key.display());
            let text =
                format!("{key} is there without {certificate}: put it back, or move both away");
            Err(BootstrapError::Unusable(text))
        }
        (is_there, _) => Ok(is_there),
    }
}

fn read(pair: &Pair) -> Result<Contents, BootstrapError> {
    let read = Contents::read(&[pair.certificate.clone(), pair.key.clone()]);
    read.map_err(|error| unusable(&error))
}

fn facts(pair: &Pair, der: &CertificateDer<'_>) -> Result<Facts, BootstrapError> {
    let path = pair.certificate.path.display();
    Facts::of(der)
        .ok_or_else(|| BootstrapError::Unusable(format!("{path} holds a broken certificate")))
}

fn unusable(error: &TlsError) -> BootstrapError {
    BootstrapError::Unusable(error.to_string())
}

fn io_error(path: &Path, source: io::Error) -> BootstrapError {
    BootstrapError::Io { path: path.display().to_string(), source }
}

/// A time of a certificate has no fractions of seconds.
fn whole(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs())
}

fn day(time: Duration) -> String {
    let time = moment::show(Timestamp(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)));
    time.split('T').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
