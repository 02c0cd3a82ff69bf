//! Admin: the secret whose holders may do everything (decision 36).

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The secret that an administrator sends as `Authorization: Bearer …`. Wiped when it is dropped.
#[derive(Clone)]
pub struct AdminToken(Zeroizing<String>);

impl AdminToken {
    /// Wraps a token.
    pub fn new(token: &str) -> Self {
        Self(Zeroizing::new(token.to_owned()))
    }

    /// Compares in constant time: the duration does not show how many bytes match.
    pub(super) fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(masked)")
    }
}

/// What a request shows as administrator's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// No bearer token.
    Nothing,
    /// A bearer token that is not the administrator's.
    Wrong,
    /// The administrator's token.
    Right,
}

impl Shown {
    /// What these headers show, when this is the administrator's token.
    pub(super) fn of(token: Option<&AdminToken>, headers: &HeaderMap) -> Self {
        let given = headers.get(AUTHORIZATION);
        let Some(given) = given.and_then(|given| credentials(given, "bearer")) else {
            return Self::Nothing;
        };
        if token.is_some_and(|token| token.is(given)) { Self::Right } else { Self::Wrong }
    }
}

/// What comes after this scheme in a header `Authorization`; `None`: its scheme is another one. The case of a scheme does not
/// count (RFC 9110).
pub(super) fn credentials<'a>(given: &'a HeaderValue, scheme: &str) -> Option<&'a str> {
    let (shown, credentials) = given.to_str().ok()?.split_once(' ')?;
    shown.eq_ignore_ascii_case(scheme).then_some(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_is_right() {
        let token = AdminToken::new("secret");
        let shown = |token, value: &str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
            Shown::of(token, &headers)
        };
        for right in ["Bearer secret", "bearer secret", "BEARER secret"] {
            assert_eq!(shown(Some(&token), right), Shown::Right, "{right}");
        }
        for wrong in ["Bearer secreT", "Bearer secret ", "Bearer s", "Bearer "] {
            assert_eq!(shown(Some(&token), wrong), Shown::Wrong, "{wrong}");
        }
        assert_eq!(shown(None, "Bearer "), Shown::Wrong, "no token is set");
        for other in ["secret", "Basic secret", "Bearersecret"] {
            assert_eq!(shown(Some(&token), other), Shown::Nothing, "{other}");
        }
        assert_eq!(Shown::of(Some(&token), &HeaderMap::new()), Shown::Nothing);
    }
}
