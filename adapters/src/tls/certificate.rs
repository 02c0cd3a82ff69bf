//! Certificate: the name in a certificate, and until when it is valid.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::gauge;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use tidegate_stages::ports::Clock;
use tracing::{error, warn};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::files::{Content, TlsError};
use crate::clock::SystemClock;
use crate::metrics::CERTIFICATE_END;

/// Longest name of a client, in bytes; that of an actor is bounded in the same way.
const MAX_NAME_BYTES: usize = 512;
/// From this time before its end on, a certificate is warned of.
pub(super) const SOON: Duration = Duration::from_hours(30 * 24);

/// The name of whoever shows a certificate: the common name of its subject; without one, the first alternative name that is a
/// URI, a DNS name or an e-mail address. `None`: it has none that is printable and of a usual length.
pub(super) fn name(der: &CertificateDer<'_>) -> Option<Arc<str>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let common = certificate.subject().iter_common_name().next();
    let name = match common.and_then(|name| name.as_str().ok()) {
        Some(common) => common.to_owned(),
        None => alternative(&certificate)?,
    };
    let is_plain = !name.is_empty() && name.len() <= MAX_NAME_BYTES;
    (is_plain && !name.chars().any(char::is_control)).then(|| name.into())
}

fn alternative(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(name) | GeneralName::DNSName(name) | GeneralName::RFC822Name(name) => {
            Some((*name).to_owned())
        }
        _ => None,
    })
}

/// What a certificate says.
#[derive(Debug)]
pub(super) struct Facts {
    /// The common name of its subject.
    pub(super) common: Option<String>,
    /// Its DNS names and IP addresses, in their order.
    pub(super) names: Vec<String>,
    /// From when on it holds, since the Unix epoch.
    pub(super) begin: Duration,
    /// Until when it holds.
    pub(super) end: Duration,
}

impl Facts {
    /// Reads a certificate; `None`: it is broken.
    pub(super) fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok()?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let common = certificate.subject().iter_common_name().next();
        let since = |time: i64| Duration::from_secs(time.try_into().unwrap_or(0));
        Some(Self {
            common: common.and_then(|name| name.as_str().ok()).map(str::to_owned),
            names: names.filter_map(server_name).collect(),
            begin: since(certificate.validity().not_before.timestamp()),
            end: since(certificate.validity().not_after.timestamp()),
        })
    }

    /// Whether the key of `issuer` has signed a certificate.
    pub(super) fn is_signed_by(der: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
        let parsed = |der| X509Certificate::from_der(der).map(|(_, certificate)| certificate);
        let (Ok(certificate), Ok(issuer)) = (parsed(der), parsed(issuer)) else { return false };
        certificate.verify_signature(Some(issuer.public_key())).is_ok()
    }
}

fn server_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            _ => Some(IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    }
}

/// What was told last of each setting, in seconds since the Unix epoch: for the process, as metrics are.
static TOLD: Mutex<BTreeMap<&'static str, i64>> = Mutex::new(BTreeMap::new());

/// When the certificates in use end: each setting that names a file, and the first end in it, in seconds since the Unix epoch.
pub(crate) fn endings() -> Vec<(&'static str, i64)> {
    TOLD.lock().iter().map(|(setting, at)| (*setting, *at)).collect()
}

/// When the first of some certificates ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    /// The setting that names their file.
    setting: &'static str,
    /// In seconds since the Unix epoch.
    at: i64,
}

impl Ending {
    /// Reads it from the certificates of a file.
    pub(super) fn of(
        content: &Content,
        certificates: &[CertificateDer<'_>],
    ) -> Result<Self, TlsError> {
        let mut at = i64::MAX;
        for der in certificates {
            let (_, certificate) = X509Certificate::from_der(der)
                .map_err(|error| content.unusable(format!("a certificate is broken: {error}")))?;
            at = at.min(certificate.validity().not_after.timestamp());
        }
        Ok(Self { setting: content.setting(), at })
    }

    /// Shows it in the metrics, and warns when it is near.
    pub(super) fn tell(&self) {
        TOLD.lock().insert(self.setting, self.at);
        #[allow(clippy::cast_precision_loss, reason = "a time in seconds is exact in an f64")]
        gauge!(CERTIFICATE_END, "setting" => self.setting).set(self.at as f64);
        let now = i64::try_from(SystemClock.now().0 / 1_000_000).unwrap_or(i64::MAX);
        let left = self.at.saturating_sub(now);
        let days = left / (24 * 60 * 60);
        if left <= 0 {
            error!(setting = self.setting, "a certificate has ended: renew it");
        } else if left <= i64::try_from(SOON.as_secs()).unwrap_or(i64::MAX) {
            warn!(setting = self.setting, days, "a certificate ends soon: renew it");
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(common: Option<&str>, alternatives: &[SanType]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(common) = common {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        params.subject_alt_names = alternatives.to_vec();
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn a_client_is_named_by_its_common_name_or_its_first_alternative_name() {
        let dns = SanType::DnsName("billing.shop".try_into().unwrap());
        let uri = SanType::URI("spiffe://shop/billing".try_into().unwrap());
        let ip = SanType::IpAddress([127, 0, 0, 1].into());
        for (common, alternatives, expected) in [
            (Some("billing"), vec![dns.clone()], Some("billing")),
            (None, vec![ip.clone(), dns.clone(), uri.clone()], Some("billing.shop")),
            (None, vec![uri], Some("spiffe://shop/billing")),
            (None, vec![ip], None),
            (Some(""), vec![dns], None),
            (Some("two\nlines"), vec![], None),
            (Some(&*"x".repeat(513)), vec![], None),
        ] {
            let named = name(&certificate(common, &alternatives));
            assert_eq!(named.as_deref(), expected, "{common:?}");
        }
        assert_eq!(name(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
