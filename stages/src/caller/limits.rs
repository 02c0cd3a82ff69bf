//! Limits: the key of a call for each rate limit. A call of the mesh itself has none.
//!
//! What is refused here is retryable: nothing was done.

use std::net::IpAddr;

use metrics::counter;
use tidegate_pipeline::layer::{RateLimitError, RateLimitLayer, RateLimitOptions};
use tower::util::MapErrLayer;

use crate::actor::ActorRef;
use crate::call::{Checked, Origin, Request};
use crate::error::Error;
use crate::identity::{IdentityName, PeerAddress};
use crate::metrics::CALLS_REFUSED_TOTAL;

/// Limits the calls of each key.
type LimitLayer<Q, K> = (MapErrLayer<fn(RateLimitError<Error>) -> Error>, RateLimitLayer<Q, K>);

/// Limits the calls of each peer. An IPv6 peer counts by its /64, within which it may choose any address.
pub(crate) fn per_peer(options: RateLimitOptions) -> LimitLayer<Request, PeerAddress> {
    let key = |request: &Request| match &request.origin {
        Origin::Outside => request.invocation.identity.peer.map(network),
        Origin::Inside(_) => None,
    };
    let refused = |error| refused("peer (TIDEGATE_RATE_LIMIT_PEER)", error);
    (MapErrLayer::new(refused), RateLimitLayer::new(options, key))
}

/// Limits the calls of each client that has a name, wherever it calls from.
pub(crate) fn per_identity(options: RateLimitOptions) -> LimitLayer<Request, IdentityName> {
    let key = |request: &Request| match &request.origin {
        Origin::Outside => request.invocation.identity.name(),
        Origin::Inside(_) => None,
    };
    let refused = |error| refused("identity (TIDEGATE_RATE_LIMIT_IDENTITY)", error);
    (MapErrLayer::new(refused), RateLimitLayer::new(options, key))
}

/// Limits the calls of each system. Only systems with registered actors become keys.
pub(crate) fn per_system(options: RateLimitOptions) -> LimitLayer<Checked, String> {
    let key = |checked: &Checked| match &checked.origin {
        Origin::Outside => Some(checked.entry.actor.system().to_owned()),
        Origin::Inside(_) => None,
    };
    let refused = |error| refused("system (TIDEGATE_RATE_LIMIT_SYSTEM)", error);
    (MapErrLayer::new(refused), RateLimitLayer::new(options, key))
}

/// Limits the calls of all actors that are made from one definition.
pub(crate) fn per_definition(options: RateLimitOptions) -> LimitLayer<Checked, ActorRef> {
    let key = |checked: &Checked| match &checked.origin {
        Origin::Outside => Some(checked.entry.definition()),
        Origin::Inside(_) => None,
    };
    let refused = |error| refused("definition (TIDEGATE_RATE_LIMIT_DEFINITION)", error);
    (MapErrLayer::new(refused), RateLimitLayer::new(options, key))
}

/// Returns the error of a call that came too early.
fn refused(whose: &str, error: RateLimitError<Error>) -> Error {
    match error {
        RateLimitError::TooMany { retry_after } => {
            counter!(CALLS_REFUSED_TOTAL, "reason" => "rate_limit").increment(1);
            Error::RateLimited { reason: format!("too many calls of this {whose}"), retry_after }
        }
        RateLimitError::Inner(error) => error,
    }
}

fn network(peer: PeerAddress) -> PeerAddress {
    match peer {
        PeerAddress::Ip(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            PeerAddress::Ip(IpAddr::from([a, b, c, d, 0, 0, 0, 0]))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_peer() {
        let counted = |address: &str| network(PeerAddress::Ip(address.parse().unwrap()));
        assert_eq!(counted("2001:db8:1:2::7"), counted("2001:db8:1:2:ffff:1:2:3"));
        assert_ne!(counted("2001:db8:1:2::7"), counted("2001:db8:1:3::7"));
        assert_ne!(counted("10.0.0.7"), counted("10.0.0.8"));
        assert_eq!(network(PeerAddress::UnixSocket), PeerAddress::UnixSocket);
    }
}
