//! Lists: values separated by commas, of networks, origins and names.

use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;

pub(super) fn networks(text: &str) -> Result<(), String> {
    parse_networks(text).map(|_| ())
}

pub(super) fn origins(text: &str) -> Result<(), String> {
    parse_origins(text).map(|_| ())
}

pub(super) fn names(text: &str) -> Result<(), String> {
    parse_names(text).map(|_| ())
}

pub(super) fn servers(text: &str) -> Result<(), String> {
    let servers = parse_servers(text)?;
    if servers.is_empty() { Err("must name a server".into()) } else { Ok(()) }
}

/// The parts of a list that is separated by commas.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Networks or single addresses. An IPv4 address may be written as an IPv6 one.
pub(super) fn parse_networks(text: &str) -> Result<Vec<IpNet>, String> {
    let network = |part: &str| {
        let address = |part: &str| part.parse().map(|address: IpAddr| address.to_canonical());
        let network = part.parse().or_else(|_| address(part).map(IpNet::from));
        network.map_err(|_| format!("must be networks such as 10.1.0.0/16,fd00::/64, not {part:?}"))
    };
    parts(text).map(network).collect()
}

/// Origins as browsers send them: scheme, host, and the port if it is not the scheme's own.
pub(super) fn parse_origins(text: &str) -> Result<Vec<String>, String> {
    let origin = |part: &str| {
        let uri = part.parse::<Uri>().ok().filter(|uri| {
            let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
            let ends = uri.path_and_query().is_none_or(|rest| rest == "/") && !part.ends_with('/');
            is_http && ends && uri.authority().is_some_and(|name| !name.as_str().contains('@'))
        });
        uri.map(|_| part.to_ascii_lowercase()).ok_or_else(|| {
            format!(
                "must be origins such as https://console.example:8443, without a path, not {part:?}"
            )
        })
    };
    parts(text).map(origin).collect()
}

/// Servers of NATS: `nats://`, `tls://` or nothing, a host, and a port unless it is 4222. Never with credentials: this is shown.
pub(super) fn parse_servers(text: &str) -> Result<Vec<String>, String> {
    let server = |part: &str| {
        if part.contains('@') {
            return Err("must not hold a user or a token, which have settings of their own".into());
        }
        let has_scheme = part.contains("://");
        let is_known = part.starts_with("nats://") || part.starts_with("tls://") || !has_scheme;
        let address = part.parse::<async_nats::ServerAddr>().ok();
        match address.filter(|address| is_known && !address.host().is_empty()) {
            Some(_) => Ok(part.to_owned()),
            None => Err(format!("must be addresses such as nats://10.0.0.4:4222, not {part:?}")),
        }
    };
    parts(text).map(server).collect()
}

/// Names of this machine, without ports.
pub(super) fn parse_names(text: &str) -> Result<Vec<String>, String> {
    let name = |part: &str| {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let plain = part.chars().all(is_name).then(|| part.to_ascii_lowercase());
        plain.ok_or_else(|| {
            format!("must be names such as proxy.internal, without port, not {part:?}")
        })
    };
    parts(text).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_separated_by_commas_and_an_address_is_one() {
        let shown = |text| {
            let networks = parse_networks(text).unwrap();
            networks.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(shown(""), [""; 0]);
        assert_eq!(shown("10.1.0.0/16, fd00::/64"), ["10.1.0.0/16", "fd00::/64"]);
        assert_eq!(
            shown("10.0.0.7,::1,::ffff:10.0.0.8"),
            ["10.0.0.7/32", "::1/128", "10.0.0.8/32"]
        );
        for wrong in ["10.0.0.0/33", "10.0.0", "shop.internal", "10.0.0.1:80", "fd00::/129", "*"] {
            assert!(parse_networks(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_origin_is_a_scheme_a_host_and_maybe_a_port() {
        let two = ["https://console.example", "http://localhost:3000"];
        assert_eq!(parse_origins("https://Console.example, http://localhost:3000").unwrap(), two);
        for wrong in
            ["*", "null", "console.example", "https://a/", "https://a/b", "ftp://a", "https://u@a"]
        {
            assert!(parse_origins(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_name_has_no_port() {
        assert_eq!(parse_names("Proxy, a.b-c.example").unwrap(), ["proxy", "a.b-c.example"]);
        for wrong in ["proxy:9001", "http://proxy", "*", "a b"] {
            assert!(parse_names(wrong).is_err(), "{wrong:?}");
        }
    }
}
