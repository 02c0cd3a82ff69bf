//! Identity: who makes a request, as the edge knows it (decision 35).
//!
//! Policies read this. The `caller` of an invocation is something else: it names an actor for the context of the action, and
//! a client may write anything there.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Who makes a request. The default is the mesh itself. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Where the request comes from; `None` for a request of the mesh itself.
    pub peer: Option<PeerAddress>,
    /// The name in the client's TLS certificate. Always `None` until the ingress reads certificates.
    pub tls_client: Option<Arc<str>>,
    /// The subject of the client's token. Always `None` until the ingress reads tokens.
    pub token_subject: Option<Arc<str>>,
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerAddress {
    /// A client over TCP. An IPv4 address is never written as an IPv6 one.
    Ip(IpAddr),
    /// A process of this machine, over the Unix socket.
    UnixSocket,
    /// Another actor system, over NATS. A message does not say who sent it.
    Nats,
}

impl PeerAddress {
    /// Whether the peer is a process of this machine, as far as its address tells.
    pub fn is_local(self) -> bool {
        match self {
            Self::Ip(address) => address.to_canonical().is_loopback(),
            Self::UnixSocket => true,
            Self::Nats => false,
        }
    }
}

/// The name of a client, by which it is known at every address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum IdentityName {
    /// The subject of its token.
    Token(Arc<str>),
    /// The name in its TLS certificate.
    Tls(Arc<str>),
}

impl Identity {
    /// Its name: that of the token where there is one, else that of the certificate.
    pub fn name(&self) -> Option<IdentityName> {
        let token = self.token_subject.clone().map(IdentityName::Token);
        token.or_else(|| self.tls_client.clone().map(IdentityName::Tls))
    }

    /// A request of this peer, of which nothing else is known.
    pub fn of(peer: PeerAddress) -> Self {
        Self { peer: Some(peer), ..Self::default() }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            None => f.write_str("the mesh")?,
            Some(PeerAddress::UnixSocket) => f.write_str("the Unix socket")?,
            Some(PeerAddress::Nats) => f.write_str("NATS")?,
            Some(PeerAddress::Ip(address)) => address.fmt(f)?,
        }
        // A client chooses these names, within what was certified or signed: they are quoted and escaped.
        if let Some(name) = &self.tls_client {
            write!(f, " with certificate {name:?}")?;
        }
        if let Some(subject) = &self.token_subject {
            write!(f, " with token {subject:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> PeerAddress {
        PeerAddress::Ip(address.parse().unwrap())
    }

    #[test]
    fn nobody_is_the_mesh_itself_and_a_peer_is_known_by_its_address() {
        let mesh = Identity::default();
        assert_eq!((mesh.peer, mesh.to_string().as_str()), (None, "the mesh"));
        let client = Identity::of(peer("10.0.0.7"));
        assert_eq!(client.to_string(), "10.0.0.7");
        assert_eq!(Identity::of(PeerAddress::UnixSocket).to_string(), "the Unix socket");
        assert_eq!(Identity::of(PeerAddress::Nats).to_string(), "NATS");
        assert_ne!(client, mesh);
        assert_eq!((client.tls_client, client.token_subject), (None, None));
    }

    #[test]
    fn names_are_shown_without_control_characters() {
        let mut client = Identity::of(peer("10.0.0.7"));
        client.tls_client = Some("shop".into());
        client.token_subject = Some("joe\n\u{1b}[2J".into());
        assert_eq!(
            client.to_string(),
            r#"10.0.0.7 with certificate "shop" with token "joe\n\u{1b}[2J""#
        );
    }
}
