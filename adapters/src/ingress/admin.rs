//! Admin: who may make changes that the original protocol does not have (decision 33).

use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use tidegate_stages::identity::{Identity, PeerAddress};

use super::http::Refusal;

/// The secret that a client on another machine sends as `Authorization: Bearer …`.
#[derive(Clone)]
pub struct AdminToken(String);

impl AdminToken {
    /// Wraps a token.
    pub fn new(token: String) -> Self {
        Self(token)
    }

    /// Compares in constant time: the duration does not show how many bytes match.
    fn is(&self, given: &str) -> bool {
        let (right, given) = (self.0.as_bytes(), given.as_bytes());
        let differing = right.iter().zip(given).fold(0, |sum, (a, b)| sum | (a ^ b));
        right.len() == given.len() && std::hint::black_box(differing) == 0
    }
}

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(masked)")
    }
}

/// Allows only local peers and peers that send the token.
pub(super) fn check(
    token: Option<&AdminToken>,
    headers: &HeaderMap,
    client: &Identity,
) -> Result<(), Refusal> {
    if client.peer.is_some_and(PeerAddress::is_local) {
        return Ok(());
    }
    let refused = |text: &str| Err(Refusal::new(StatusCode::FORBIDDEN, text));
    let Some(token) = token else {
        return refused("only local clients may do this until TIDEGATE_ADMIN_TOKEN is set");
    };
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match given.and_then(|given| given.strip_prefix("Bearer ")) {
        Some(given) if token.is(given) => Ok(()),
        Some(_) => refused("the bearer token is not the one in TIDEGATE_ADMIN_TOKEN"),
        None => refused("needs the header Authorization: Bearer with TIDEGATE_ADMIN_TOKEN"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_from_elsewhere_needs_the_token() {
        let elsewhere = &Identity::of(PeerAddress::Ip([10, 0, 0, 7].into()));
        let token = AdminToken::new("secret".into());
        let with = |value: &str| HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
        assert!(check(Some(&token), &with("Bearer secret"), elsewhere).is_ok());
        for wrong in ["Bearer secreT", "Bearer secret ", "Bearer s", "Bearer ", "secret"] {
            assert!(check(Some(&token), &with(wrong), elsewhere).is_err(), "{wrong}");
        }
        assert!(check(Some(&token), &HeaderMap::new(), elsewhere).is_err());
        assert!(check(None, &with("Bearer secret"), elsewhere).is_err());
    }

    #[test]
    fn a_local_client_needs_none() {
        for local in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let peer = Identity::of(PeerAddress::Ip(local.parse().unwrap()));
            assert!(check(None, &HeaderMap::new(), &peer).is_ok(), "{local}");
        }
        assert!(check(None, &HeaderMap::new(), &Identity::of(PeerAddress::UnixSocket)).is_ok());
    }
}
