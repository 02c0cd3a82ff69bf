//! Identity: the one place where the identity of a request is made (decision 35).

use tidegate_stages::identity::{Identity, PeerAddress};

use crate::net::Peer;

/// Who is at the other end of a connection, before anything is read from it. Each request of the connection begins with it.
pub(super) fn of(peer: Peer) -> Identity {
    Identity::of(match peer {
        Peer::Ip(address) => PeerAddress::Ip(address.to_canonical()),
        Peer::Local => PeerAddress::UnixSocket,
    })
}
