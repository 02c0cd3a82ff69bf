//! Hosts: lists the hosts of a system's definitions, and drains one.

use http::StatusCode;
use tidegate_stages::actor::HostAddress;

use super::Calls;
use super::http::{Answer, JSON, Refusal, of_type};
use crate::wire;

/// An address as a registration names it, with its scheme.
pub(super) fn address(given: &str) -> Option<HostAddress> {
    if let Some(path) = given.strip_prefix(crate::net::UNIX_PREFIX) {
        return path.starts_with('/').then(|| HostAddress::new(given));
    }
    let (scheme, authority) = given.split_once("://")?;
    let authority: http::uri::Authority =
        authority.strip_suffix('/').unwrap_or(authority).parse().ok()?;
    let is_plain = authority.port_u16()? > 0 && !authority.as_str().contains('@');
    (is_plain && matches!(scheme, "http" | "https"))
        .then(|| HostAddress::new(&format!("{scheme}://{authority}")))
}

/// The address that a path names, in any form that a registration may have it in.
pub(super) fn named(given: &str) -> Result<HostAddress, Refusal> {
    let with_scheme = address(given).or_else(|| address(&format!("http://{given}")));
    with_scheme.ok_or_else(|| {
        let text = format!(
            "a host is host:port, http://host:port, https://host:port or unix:/path, not {given:?}"
        );
        Refusal::new(StatusCode::BAD_REQUEST, text)
    })
}

/// Lists the hosts of a system.
pub(super) fn list<C: Calls>(calls: &C, system: &str) -> Answer {
    of_type(JSON, wire::hosts(&calls.hosts(system)))
}

/// Drains a host.
pub(super) async fn drain<C: Calls>(
    calls: &C,
    system: &str,
    host: &HostAddress,
) -> Result<Answer, Refusal> {
    let running = calls.drain_host(system, host).await?;
    Ok(of_type(JSON, wire::drained(host, running)))
}
