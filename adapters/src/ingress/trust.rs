//! Trust: who may ask for what (decision 36). [`decide`] is the whole rule, without I/O; the rest gathers what it reads.

mod user_function;

use std::net::IpAddr;

use http::header::{HOST, HeaderValue, ORIGIN};
use http::{Method, request};
use ipnet::IpNet;
use tidegate_stages::actor::HostAddress;
use tidegate_stages::identity::{Identity, PeerAddress};

use super::admin::{AdminToken, Shown};
use crate::net::UNIX_PREFIX;
pub use user_function::UserFunction;

/// The settings that say who is trusted.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Whether clients over loopback are trusted.
    pub loopback: bool,
    /// Networks whose clients are trusted.
    pub peers: Vec<IpNet>,
    /// The machine of the user function, whose clients are trusted.
    pub user_function: Option<UserFunction>,
    /// Its holders may do everything.
    pub admin_token: Option<AdminToken>,
    /// Web pages that may change something, in lower case.
    pub origins: Vec<String>,
    /// Names of the proxy besides `localhost`, for clients over loopback, in lower case.
    pub host_names: Vec<String>,
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            loopback: true,
            peers: Vec::new(),
            user_function: None,
            admin_token: None,
            origins: Vec::new(),
            host_names: Vec::new(),
        }
    }
}

/// What a request asks for, as far as its head tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// Health and metrics: for anybody.
    Status,
    /// An invocation, or an actor's current state: for anybody.
    Use,
    /// A registration or a spawn: for trusted peers.
    Register,
    /// A change of schedules: for trusted peers.
    Schedule,
    /// A change that the original protocol does not have, or an actor's history: for administrators.
    Administer,
    /// That a host gets no new turns: for administrators, and for trusted peers at the address of the host.
    Drain,
}

impl Asks {
    /// Whether the audit tells of it also when it is allowed.
    pub(super) fn is_audited(self) -> bool {
        matches!(self, Self::Administer | Self::Drain | Self::Schedule)
    }
}

/// A request, as far as the rule reads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) asks: Asks,
    pub(super) client: &'a Identity,
    pub(super) page: Page<'a>,
    pub(super) token: Shown,
    /// Whether the client's address is one of the user function's. `false` until somebody has looked.
    pub(super) is_user_function: bool,
    /// The address that a registration names for its host, or the host to drain.
    pub(super) host: Option<&'a HostAddress>,
}

/// What tells a request of a web page, and which name of the proxy it uses.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Page<'a> {
    /// The page's origin, if a browser sends a request that changes something.
    pub(super) origin: Option<&'a [u8]>,
    /// What the client calls the proxy, with or without port.
    pub(super) host: Option<&'a [u8]>,
}

/// Why a request is refused. The text names the setting that opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error(
        "only trusted clients may do this: TIDEGATE_TRUSTED_PEERS lists the networks that are trusted, and holders of TIDEGATE_ADMIN_TOKEN are"
    )]
    Untrusted,
    #[error(
        "only trusted clients may do this, and TIDEGATE_TRUST_LOOPBACK=false says that local ones are not: TIDEGATE_TRUSTED_PEERS lists the networks that are, and holders of TIDEGATE_ADMIN_TOKEN are"
    )]
    UntrustedLoopback,
    #[error("only local clients may do this until TIDEGATE_ADMIN_TOKEN is set")]
    NotLocal,
    #[error(
        "nobody may do this until TIDEGATE_ADMIN_TOKEN is set, since TIDEGATE_TRUST_LOOPBACK=false says that local clients are not trusted"
    )]
    NoAdministrator,
    #[error("needs the header Authorization: Bearer with TIDEGATE_ADMIN_TOKEN")]
    NoToken,
    #[error("the bearer token is not the one in TIDEGATE_ADMIN_TOKEN")]
    WrongToken,
    #[error(
        "the header tidegate-host names another address than the client's own: that needs the header Authorization: Bearer with TIDEGATE_ADMIN_TOKEN"
    )]
    HostElsewhere,
    #[error(
        "the header tidegate-host names a Unix socket, which is taken over the Unix socket only (PROXY_UDS_ENABLED); USER_FUNCTION_HOST may name one"
    )]
    UnixSocketOverTcp,
    #[error(
        "a web page of another origin may change nothing: TIDEGATE_ORIGINS lists the origins that may"
    )]
    Origin,
    #[error(
        "this is no name of the proxy for local clients, it may be a web page's: TIDEGATE_HOST_NAMES lists the names besides localhost and IP addresses"
    )]
    HostName,
}

/// Whether the request is allowed. The whole rule; no I/O.
///
/// # Errors
/// With the reason, which names the setting that opens it.
pub(super) fn decide(asked: &Asked<'_>, trust: &Trust) -> Result<(), Refused> {
    let is_administrator = asked.token == Shown::Right;
    if asked.asks != Asks::Status {
        is_no_foreign_page(asked, trust)?;
    }
    match asked.asks {
        Asks::Status | Asks::Use => Ok(()),
        Asks::Administer if is_administrator => Ok(()),
        Asks::Administer => administers_without_token(asked, trust),
        Asks::Drain => {
            let administers = decide(&Asked { asks: Asks::Administer, ..*asked }, trust);
            let is_own = || decide(&Asked { asks: Asks::Register, ..*asked }, trust).is_ok();
            administers.or_else(|refused| if is_own() { Ok(()) } else { Err(refused) })
        }
        Asks::Register | Asks::Schedule => {
            let peer = asked.client.peer;
            if !is_administrator && !asked.is_user_function && !is_trusted(peer, trust) {
                return Err(if peer.is_some_and(PeerAddress::is_local) {
                    Refused::UntrustedLoopback
                } else {
                    Refused::Untrusted
                });
            }
            asked.host.map_or(Ok(()), |host| names_its_own(host, asked.client, is_administrator))
        }
    }
}

/// Whether no web page that is not known is behind the request, whoever's browser it is.
///
/// Only `Origin` marks a browser, and it comes with everything but a plain GET. A page can still make its own name
/// stand for this machine, and then reads as if the proxy were its server: what it calls the proxy shows that.
fn is_no_foreign_page(asked: &Asked<'_>, trust: &Trust) -> Result<(), Refused> {
    if asked.page.origin.is_some_and(|origin| !trust.knows_origin(origin)) {
        return Err(Refused::Origin);
    }
    let is_loopback =
        matches!(asked.client.peer, Some(peer @ PeerAddress::Ip(_)) if peer.is_local());
    match asked.page.host {
        Some(host) if is_loopback && !is_name_of_the_proxy(host, trust) => Err(Refused::HostName),
        _ => Ok(()),
    }
}

/// Whether a web page cannot have this name: `localhost`, an IP address, or one of the settings'.
fn is_name_of_the_proxy(host: &[u8], trust: &Trust) -> bool {
    // All calls of local clients pass here: bytes are cheaper to search than text.
    let name = match host.iter().rposition(|byte| *byte == b':').map(|at| host.split_at(at)) {
        Some((name, [_, port @ ..])) if port.iter().all(u8::is_ascii_digit) => name,
        _ => host,
    };
    if matches!(name, b"127.0.0.1" | b"localhost") {
        return true;
    }
    let Ok(name) = std::str::from_utf8(name) else { return false };
    let six = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::Ipv4Addr>().is_ok()
        || six.is_some_and(|six| six.parse::<std::net::Ipv6Addr>().is_ok())
        || trust.host_names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Local clients administer as long as no token is set.
fn administers_without_token(asked: &Asked<'_>, trust: &Trust) -> Result<(), Refused> {
    let is_local = asked.client.peer.is_some_and(PeerAddress::is_local);
    match (&trust.admin_token, asked.token) {
        (Some(_), Shown::Wrong) => Err(Refused::WrongToken),
        (Some(_), _) => Err(Refused::NoToken),
        (None, _) if is_local && is_trusted(asked.client.peer, trust) => Ok(()),
        (None, _) if is_local => Err(Refused::NoAdministrator),
        (None, _) => Err(Refused::NotLocal),
    }
}

/// Whether a client is trusted for where it is, as far as no name has to be looked up for that.
fn is_trusted(client: Option<PeerAddress>, trust: &Trust) -> bool {
    match client {
        None | Some(PeerAddress::UnixSocket) => true,
        Some(PeerAddress::Nats) => false,
        Some(PeerAddress::Ip(address)) => {
            let address = address.to_canonical();
            (trust.loopback && address.is_loopback())
                || trust.peers.iter().any(|network| network.contains(&address))
        }
    }
}

/// A registration names the client's own address, or its client shows the token.
fn names_its_own(
    host: &HostAddress,
    client: &Identity,
    is_administrator: bool,
) -> Result<(), Refused> {
    let peer = client.peer.unwrap_or(PeerAddress::UnixSocket);
    if host.as_str().starts_with(UNIX_PREFIX) {
        let is_unix = peer == PeerAddress::UnixSocket;
        return if is_unix { Ok(()) } else { Err(Refused::UnixSocketOverTcp) };
    }
    let authority = host.as_str().strip_prefix("https://").unwrap_or(host.as_str());
    let name = authority.rsplit_once(':').map_or(authority, |(name, _port)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse();
    let is_own = match address.map(|address: IpAddr| address.to_canonical()) {
        Ok(address) if address.is_loopback() => peer.is_local(),
        Ok(address) => matches!(peer, PeerAddress::Ip(own) if own.to_canonical() == address),
        Err(_) => peer.is_local() && name.eq_ignore_ascii_case("localhost"),
    };
    if is_own || is_administrator { Ok(()) } else { Err(Refused::HostElsewhere) }
}

impl Trust {
    /// Whether the request is allowed, and what token it shows where that matters. Looks up the user function's name when
    /// nothing else makes its client a trusted one.
    ///
    /// # Errors
    /// With the reason, which names the setting that opens it.
    pub(super) async fn check(
        &self,
        asks: Asks,
        client: &Identity,
        head: &request::Parts,
        host: Option<&HostAddress>,
    ) -> Result<Shown, Refused> {
        let changes = !matches!(head.method, Method::GET | Method::HEAD);
        let header = |name| head.headers.get(name).map(HeaderValue::as_bytes);
        let page = Page {
            origin: header(ORIGIN).filter(|_| changes),
            // HTTP/2 has it in the address.
            host: head
                .uri
                .authority()
                .map(|name| name.as_str().as_bytes())
                .or_else(|| header(HOST)),
        };
        let token = match asks {
            Asks::Status | Asks::Use => Shown::Nothing,
            Asks::Register | Asks::Schedule | Asks::Administer | Asks::Drain => {
                Shown::of(self.admin_token.as_ref(), &head.headers)
            }
        };
        let asked = Asked { asks, client, page, token, is_user_function: false, host };
        let mut decided = decide(&asked, self);
        // Who may not drain a host is refused as one who does not administer.
        if decided == Err(Refused::Untrusted) || (asks == Asks::Drain && decided.is_err()) {
            let is_user_function = self.is_user_function(client.peer).await;
            decided = decide(&Asked { is_user_function, ..asked }, self);
        }
        decided.map(|()| token)
    }

    /// Whether web pages of this origin may change something.
    pub(super) fn knows_origin(&self, origin: &[u8]) -> bool {
        self.origins.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(origin))
    }

    /// Whether a client is trusted for where it is. Looks up the user function's name when nothing else makes it a trusted one,
    /// so it is asked last.
    pub(super) async fn trusts(&self, client: Option<PeerAddress>) -> bool {
        is_trusted(client, self) || self.is_user_function(client).await
    }

    /// Whether a client is trusted for where it is, as far as that is known without a lookup: for answers that must not wait.
    pub(super) fn trusts_without_lookup(&self, client: Option<PeerAddress>) -> bool {
        is_trusted(client, self)
            || self.to_compare(client).is_some_and(|(machine, address)| machine.had(address))
    }

    /// Whether a client's address is one of the user function's.
    async fn is_user_function(&self, client: Option<PeerAddress>) -> bool {
        match self.to_compare(client) {
            Some((machine, address)) => Box::pin(machine.has(address)).await,
            None => false,
        }
    }

    /// The machine of the user function, and the client's address to compare with it. About clients over loopback `loopback`
    /// alone decides.
    fn to_compare(&self, client: Option<PeerAddress>) -> Option<(&UserFunction, IpAddr)> {
        match (&self.user_function, client) {
            (Some(machine), Some(peer @ PeerAddress::Ip(address))) if !peer.is_local() => {
                Some((machine, address))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
