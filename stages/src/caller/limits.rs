//! Limits: the key of a call for each rate limit. A call of the mesh itself has none.
//!
//! The calls of a client are counted when they are [announced](super::announce), the others when they are known.
//!
//! What is refused here is retryable: nothing was done.

use std::net::IpAddr;
use std::time::Duration;

use metrics::counter;
use tidegate_pipeline::layer::{RateLimitError, RateLimitLayer, RateLimitOptions};
use tower::util::MapErrLayer;

use crate::actor::ActorRef;
use crate::call::{Checked, Origin};
use crate::error::Error;
use crate::identity::{Identity, IdentityName, PeerAddress};
use crate::metrics::CALLS_REFUSED_TOTAL;

/// Limits the calls of each key.
type LimitLayer<K> = (MapErrLayer<fn(RateLimitError<Error>) -> Error>, RateLimitLayer<Checked, K>);

/// The setting of each limit, as a refused call is told.
pub(super) const OF_PEER: &str = "peer (TIDEGATE_RATE_LIMIT_PEER)";
pub(super) const OF_IDENTITY: &str = "identity (TIDEGATE_RATE_LIMIT_IDENTITY)";
pub(super) const OF_SYSTEM: &str = "system (TIDEGATE_RATE_LIMIT_SYSTEM)";

/// Limits the calls of each peer. An IPv6 peer counts by its /64, within which it may choose any address.
pub(crate) fn per_peer(options: RateLimitOptions) -> RateLimitLayer<Identity, PeerAddress> {
    RateLimitLayer::new(options, |client: &Identity| client.peer.map(network))
}

/// Limits the calls of each client that has a name, wherever it calls from.
pub(crate) fn per_identity(options: RateLimitOptions) -> RateLimitLayer<Identity, IdentityName> {
    RateLimitLayer::new(options, Identity::name)
}

/// Limits the calls of each system. Only systems with registered actors become keys.
pub(crate) fn per_system(options: RateLimitOptions) -> RateLimitLayer<Checked, String> {
    let key = |checked: &Checked| match &checked.origin {
        Origin::Outside => Some(checked.entry.actor.system().to_owned()),
        Origin::Inside(_) | Origin::Due => None,
    };
    RateLimitLayer::new(options, key)
}

/// Mounts the limit of systems on a stage.
pub(crate) fn counted_per_system(layer: RateLimitLayer<Checked, String>) -> LimitLayer<String> {
    (MapErrLayer::new(|error| refused(OF_SYSTEM, error)), layer)
}

/// Limits the calls of all actors that are made from one definition.
pub(crate) fn per_definition(options: RateLimitOptions) -> LimitLayer<ActorRef> {
    let key = |checked: &Checked| match &checked.origin {
        Origin::Outside => Some(checked.entry.definition()),
        Origin::Inside(_) | Origin::Due => None,
    };
    let refused = |error| refused("definition (TIDEGATE_RATE_LIMIT_DEFINITION)", error);
    (MapErrLayer::new(refused), RateLimitLayer::new(options, key))
}

/// Returns the error of a call that came too early.
fn refused(whose: &str, error: RateLimitError<Error>) -> Error {
    match error {
        RateLimitError::TooMany { retry_after } => too_many(whose, retry_after),
        RateLimitError::Inner(error) => error,
    }
}

/// The same, of a call that no service has yet.
pub(super) fn refused_early(whose: &str, error: RateLimitError) -> Error {
    match error {
        RateLimitError::TooMany { retry_after } => too_many(whose, retry_after),
        RateLimitError::Inner(never) => match never {},
    }
}

fn too_many(whose: &str, retry_after: Duration) -> Error {
    counter!(CALLS_REFUSED_TOTAL, "reason" => "rate_limit").increment(1);
    Error::RateLimited { reason: format!("too many calls of this {whose}"), retry_after }
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
