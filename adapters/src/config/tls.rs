//! TLS: the settings that name certificates and keys.

use super::sources::Source;
use super::{Config, Mistake, Mistakes};
use crate::net::UNIX_PREFIX;
use crate::tls::{ClientAuth, ClientFiles, Pair, PemFile, ServerFiles};

const CERTIFICATE: &str = "TIDEGATE_TLS_CERT";
const KEY: &str = "TIDEGATE_TLS_KEY";
const CLIENT_CA: &str = "TIDEGATE_TLS_CLIENT_CA";
const CLIENT_AUTH: &str = "TIDEGATE_TLS_CLIENT_AUTH";

/// The TLS of the ingress; `None`: it speaks in the clear.
///
/// # Errors
/// When one setting lacks another, so that nobody believes in protection that is not there.
pub(super) fn ingress(config: &Config) -> Result<Option<ServerFiles>, Mistakes> {
    let file = |setting| file(config, setting);
    let auth_is_set = config.get(CLIENT_AUTH).source != Source::Default;
    let is_optional = text(config, CLIENT_AUTH).is_some_and(|auth| auth == "optional");
    let (certificate, key, client_ca) = (file(CERTIFICATE), file(KEY), file(CLIENT_CA));
    match (certificate, key, client_ca) {
        (Some(_), None, _) => lacks(CERTIFICATE, KEY),
        (None, Some(_), _) => lacks(KEY, CERTIFICATE),
        (None, None, Some(_)) => lacks(CLIENT_CA, CERTIFICATE),
        (_, _, None) if auth_is_set => lacks(CLIENT_AUTH, CLIENT_CA),
        (None, None, None) => Ok(None),
        (Some(certificate), Some(key), client_ca) => {
            if is_on(config, "PROXY_UDS_ENABLED") {
                let text = "has no effect on a Unix socket: unset it, or PROXY_UDS_ENABLED";
                return mistake(CERTIFICATE, text.into());
            }
            let auth = if is_optional { ClientAuth::Optional } else { ClientAuth::Required };
            Ok(Some(ServerFiles { certificate, key, clients: client_ca.map(|ca| (ca, auth)) }))
        }
    }
}

/// The TLS of connections to hosts.
///
/// # Errors
/// When one setting lacks another.
pub(super) fn hosts(config: &Config) -> Result<ClientFiles, Mistakes> {
    let is_unix =
        text(config, "USER_FUNCTION_HOST").is_some_and(|host| host.starts_with(UNIX_PREFIX));
    if is_unix && is_on(config, "TIDEGATE_HOST_TLS") {
        let text = "has no effect on a Unix socket, which USER_FUNCTION_HOST names";
        return mistake("TIDEGATE_HOST_TLS", text.into());
    }
    let roots = file(config, "TIDEGATE_HOST_TLS_CA");
    let shown = pair(config, "TIDEGATE_HOST_TLS_CERT", "TIDEGATE_HOST_TLS_KEY")?;
    Ok(ClientFiles { roots, shown })
}

/// The TLS of commands that ask a running proxy.
///
/// # Errors
/// When one setting lacks another.
pub(super) fn proxy(config: &Config) -> Result<ClientFiles, Mistakes> {
    let roots = file(config, "TIDEGATE_PROXY_TLS_CA");
    let shown = pair(config, "TIDEGATE_PROXY_TLS_CERT", "TIDEGATE_PROXY_TLS_KEY")?;
    Ok(ClientFiles { roots, shown })
}

/// What the proxy shows to the database.
///
/// # Errors
/// When one setting lacks another.
pub(super) fn database(config: &Config) -> Result<Option<Pair>, Mistakes> {
    let (certificate, key) = ("TIDEGATE_DATABASE_CERT", "TIDEGATE_DATABASE_KEY");
    let shown = pair(config, certificate, key)?;
    if shown.is_some() && !is_on(config, "PROXY_DATABASE_SSL") {
        return lacks(certificate, "PROXY_DATABASE_SSL=true");
    }
    Ok(shown)
}

const NATS_ROOTS: &str = "TIDEGATE_NATS_TLS_CA";
const NATS_CERTIFICATE: &str = "TIDEGATE_NATS_TLS_CERT";

/// The TLS of the connections to NATS whose settings begin with `prefix`; `None`: they are in the clear.
///
/// # Errors
/// When one setting lacks another.
pub(super) fn nats(config: &Config, prefix: &str) -> Result<Option<ClientFiles>, Mistakes> {
    if !is_on(config, &format!("{prefix}_TLS")) {
        return Ok(None);
    }
    let roots = file(config, NATS_ROOTS);
    let shown = pair(config, NATS_CERTIFICATE, "TIDEGATE_NATS_TLS_KEY")?;
    Ok(Some(ClientFiles { roots, shown }))
}

/// Refuses files that none of these connections to NATS uses.
///
/// # Errors
/// When there is one.
pub(super) fn check_nats(config: &Config, prefixes: &[&str]) -> Result<(), Mistakes> {
    let tls = |prefix: &str| format!("{prefix}_TLS");
    let Some(first) = prefixes.first() else { return Ok(()) };
    if prefixes.iter().any(|prefix| is_on(config, &tls(prefix))) {
        return Ok(());
    }
    let given =
        [NATS_ROOTS, NATS_CERTIFICATE].into_iter().find(|name| file(config, name).is_some());
    given.map_or(Ok(()), |name| lacks(name, &format!("{}=true", tls(first))))
}

const OTLP_ROOTS: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
const HTTPS: &str = "OTEL_EXPORTER_OTLP_ENDPOINT=https://…";
const OTLP_CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";

/// The TLS of the receiver of traces at this address; `None`: it is spoken to in the clear.
///
/// # Errors
/// When one setting lacks another.
pub(super) fn traces(config: &Config, endpoint: &str) -> Result<Option<ClientFiles>, Mistakes> {
    let roots = file(config, OTLP_ROOTS);
    let shown = pair(config, OTLP_CERTIFICATE, "OTEL_EXPORTER_OTLP_CLIENT_KEY")?;
    let is_https = endpoint.parse::<http::Uri>().is_ok_and(|uri| uri.scheme_str() == Some("https"));
    match (is_https, &roots, &shown) {
        (true, _, _) => Ok(Some(ClientFiles { roots, shown })),
        (false, None, None) => Ok(None),
        (false, Some(_), _) => lacks(OTLP_ROOTS, HTTPS),
        (false, None, Some(_)) => lacks(OTLP_CERTIFICATE, HTTPS),
    }
}

fn pair(
    config: &Config,
    certificate: &'static str,
    key: &'static str,
) -> Result<Option<Pair>, Mistakes> {
    match (file(config, certificate), file(config, key)) {
        (Some(certificate), Some(key)) => Ok(Some(Pair { certificate, key })),
        (Some(_), None) => lacks(certificate, key),
        (None, Some(_)) => lacks(key, certificate),
        (None, None) => Ok(None),
    }
}

fn file(config: &Config, setting: &'static str) -> Option<PemFile> {
    text(config, setting).map(|path| PemFile { setting, path: path.into() })
}

fn is_on(config: &Config, setting: &str) -> bool {
    text(config, setting).is_some_and(|value| value == "true")
}

fn text(config: &Config, setting: &str) -> Option<String> {
    config.get(setting).value.as_ref().map(ToString::to_string)
}

fn lacks<T>(setting: &str, other: &str) -> Result<T, Mistakes> {
    mistake(setting, format!("needs {other} too"))
}

fn mistake<T>(setting: &str, text: String) -> Result<T, Mistakes> {
    Err(Mistakes(vec![Mistake { setting: setting.into(), text }]))
}

#[cfg(test)]
mod tests {
    use super::super::tests::from;
    use super::*;
    use crate::ingress::Hosts;

    #[test]
    fn a_setting_of_tls_that_lacks_another_is_a_mistake() {
        let (certificate, key) = ((CERTIFICATE, "c.pem"), (KEY, "k.pem"));
        let http = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317");
        let https = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost:4317");
        for (settings, told) in [
            (&[certificate][..], "TIDEGATE_TLS_CERT: needs TIDEGATE_TLS_KEY"),
            (&[key], "TIDEGATE_TLS_KEY: needs TIDEGATE_TLS_CERT"),
            (&[(CLIENT_CA, "ca.pem")], "TIDEGATE_TLS_CLIENT_CA: needs TIDEGATE_TLS_CERT"),
            (&[certificate, key, (CLIENT_AUTH, "required")], "needs TIDEGATE_TLS_CLIENT_CA"),
            (&[certificate, key, ("PROXY_UDS_ENABLED", "true")], "Unix socket"),
            (&[("TIDEGATE_HOST_TLS_CERT", "c.pem")], "needs TIDEGATE_HOST_TLS_KEY"),
            (&[("TIDEGATE_HOST_TLS_KEY", "k.pem")], "needs TIDEGATE_HOST_TLS_CERT"),
            (&[("TIDEGATE_HOST_TLS", "true"), ("USER_FUNCTION_HOST", "unix:/a")], "Unix socket"),
            (&[("TIDEGATE_DATABASE_CERT", "c.pem")], "needs TIDEGATE_DATABASE_KEY"),
            (
                &[("TIDEGATE_DATABASE_CERT", "c.pem"), ("TIDEGATE_DATABASE_KEY", "k.pem")],
                "needs PROXY_DATABASE_SSL=true",
            ),
            (
                &[http, ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem")],
                "OTEL_EXPORTER_OTLP_CERTIFICATE: needs OTEL_EXPORTER_OTLP_ENDPOINT=https://",
            ),
            (
                &[
                    http,
                    ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "c.pem"),
                    ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "k.pem"),
                ],
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: needs OTEL_EXPORTER_OTLP_ENDPOINT=https://",
            ),
            (
                &[https, ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "k.pem")],
                "needs OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            ),
        ] {
            let mistakes = from(settings).unwrap().settings().unwrap_err().to_string();
            assert!(mistakes.contains(told), "{mistakes}");
        }
    }

    #[test]
    fn hosts_of_the_settings_are_called_over_tls_where_it_is_asked_for() {
        let tls = ("TIDEGATE_HOST_TLS", "true");
        for (host, address) in
            [("0.0.0.0", "https://127.0.0.1:8090"), ("::1", "https://[::1]:8090")]
        {
            let settings = from(&[tls, ("USER_FUNCTION_HOST", host)]).unwrap().settings().unwrap();
            let Hosts::Sidecar(found) = settings.hosts else { panic!("beside the proxy") };
            assert_eq!(found.as_str(), address);
        }
        let daemon = from(&[tls, ("PROXY_DEPLOYMENT_MODE", "daemon")]).unwrap();
        assert!(matches!(daemon.settings().unwrap().hosts, Hosts::Daemon { tls: true, .. }));
    }

    #[test]
    fn a_client_needs_a_certificate_once_it_is_said_whose_count() {
        let ca = (CLIENT_CA, "ca.pem");
        let files = |more: &[(&str, &str)]| {
            let settings = [&[(CERTIFICATE, "c.pem"), (KEY, "k.pem")], more].concat();
            from(&settings).unwrap().settings().unwrap().http.tls.unwrap()
        };
        let auth = |more: &[(&str, &str)]| files(more).clients.map(|(_, auth)| auth);
        assert_eq!(auth(&[]), None);
        assert_eq!(auth(&[ca]), Some(ClientAuth::Required));
        assert_eq!(auth(&[ca, (CLIENT_AUTH, "optional")]), Some(ClientAuth::Optional));
        let found = files(&[]).certificate;
        assert_eq!(found.to_string(), "TIDEGATE_TLS_CERT=c.pem");
        assert_eq!(from(&[]).unwrap().settings().unwrap().http.tls, None);
    }
}
