//! Peer: from where a client calls, as a policy names it.

use std::net::IpAddr;

use super::pattern::Pattern;
use crate::identity::PeerAddress;

/// How the clients over the Unix socket are written.
const UNIX: &str = "unix";

/// The addresses that one value of a policy names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Peer {
    /// The Unix socket.
    Unix,
    /// The addresses that begin with as many bits as this one does.
    Network { address: IpAddr, bits: u32 },
    /// The addresses whose text matches.
    Text(Pattern),
}

impl Peer {
    /// Reads `unix`, an address, a network, or one of these with a `*`. Whatever no client can have is a mistake: as a value that
    /// never matches it would let through what a deny is to refuse.
    ///
    /// # Errors
    /// In words, when it is none.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no peer: an IP address, a network such as 10.0.0.0/8, `unix`, or the text of an address with one *"
            )
        };
        if text.contains('*') {
            let is_possible = |c: char| matches!(c, '0'..='9' | 'a'..='f' | '.' | ':' | '*');
            let pattern = Pattern::parse(text).ok_or_else(wrong)?;
            let is_one = text.chars().all(is_possible) || pattern.matches(UNIX);
            return if is_one { Ok(Self::Text(pattern)) } else { Err(wrong()) };
        }
        if text == UNIX {
            return Ok(Self::Unix);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let given: IpAddr = address.parse().map_err(|_| wrong())?;
        // The address of a client is never an IPv4 address that is written as an IPv6 one.
        let address = given.to_canonical();
        let (most, left_out) = match (given, address) {
            (IpAddr::V6(_), IpAddr::V4(_)) => (128, 96),
            (IpAddr::V6(_), _) => (128, 0),
            (IpAddr::V4(_), _) => (32, 0),
        };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        let bits = u32::checked_sub(bits, left_out).filter(|_| bits <= most).ok_or_else(wrong)?;
        Ok(Self::Network { address, bits })
    }

    /// Whether calls over this peer come from there.
    pub(super) fn matches(&self, peer: PeerAddress) -> bool {
        match (self, peer) {
            (Self::Unix, PeerAddress::UnixSocket) => true,
            (Self::Text(pattern), PeerAddress::UnixSocket) => pattern.matches(UNIX),
            (Self::Network { address, bits }, PeerAddress::Ip(peer)) => {
                let equal = match (*address, peer) {
                    (IpAddr::V4(network), IpAddr::V4(peer)) => {
                        (network.to_bits() ^ peer.to_bits()).leading_zeros()
                    }
                    (IpAddr::V6(network), IpAddr::V6(peer)) => {
                        (network.to_bits() ^ peer.to_bits()).leading_zeros()
                    }
                    _ => return false,
                };
                equal >= *bits
            }
            (Self::Text(pattern), PeerAddress::Ip(peer)) => pattern.matches(&peer.to_string()),
            _ => false,
        }
    }
}
