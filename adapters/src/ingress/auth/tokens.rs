//! Tokens: checks JWTs, and takes the name out of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::{Map, Value};
use tidegate_stages::actor::check_name;
use zeroize::Zeroizing;

use super::AuthFileError;
use super::keys::{self, TokenKey};
use super::users::read;
use crate::reload::Watched;

/// Size of a token at most, in bytes.
const MAX_BYTES: usize = 8 << 10;

/// What a token has to say, besides that it has not expired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenRules {
    /// One of these has to be its audience; empty: it has none.
    pub audience: Vec<String>,
    /// One of these has to be its issuer; empty: anybody may be.
    pub issuer: Vec<String>,
    /// How much the clocks of issuer and proxy may differ.
    pub leeway: Duration,
    /// The claim that names the client.
    pub claim: String,
}

impl TokenRules {
    pub(super) fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        let mut required = vec!["exp"];
        if !self.audience.is_empty() {
            validation.set_audience(&self.audience);
            required.push("aud");
        }
        if !self.issuer.is_empty() {
            validation.set_issuer(&self.issuer);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation.validate_nbf = true;
        validation.leeway = self.leeway.as_secs();
        validation
    }
}

/// Why a token is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error("the token has more than {MAX_BYTES} bytes")]
    TooLong,
    #[error("the token is no JWT that is signed with HS256, RS256 or ES256")]
    NoToken,
    #[error("the token asks for extensions that are not known")]
    Critical,
    #[error("the token is not signed by a key that is known here for its algorithm")]
    Unsigned,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    Early,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token is of another issuer")]
    Issuer,
    #[error("the token has no claim {0:?} of the kind that is needed")]
    NoClaim(String),
}

impl From<Error> for TokenError {
    fn from(error: Error) -> Self {
        match error.into_kind() {
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::Early,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
                Self::NoClaim(claim)
            }
            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => Self::Unsigned,
            _ => Self::NoToken,
        }
    }
}

/// The keys in effect, which a reload replaces. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Tokens {
    keys: Arc<ArcSwap<Vec<TokenKey>>>,
    claim: Arc<str>,
}

/// Keeps the keys up to date.
type WatchedKeys = Watched<Zeroizing<String>, AuthFileError>;

impl Tokens {
    /// Reads the keys.
    pub(super) fn open(
        file: PathBuf,
        rules: &TokenRules,
    ) -> Result<(Self, WatchedKeys), AuthFileError> {
        let tokens = Self { keys: Arc::default(), claim: rules.claim.as_str().into() };
        let (keys, path, rules) = (tokens.keys.clone(), file.clone(), rules.clone());
        let read = move || read(&file, keys::MAX_BYTES).map(Zeroizing::new);
        let watched = Watched::start("token_keys", read, move |text: &Zeroizing<String>| {
            keys.store(Arc::new(keys::parse(&path, text, &rules)?));
            Ok(())
        })?;
        Ok((tokens, watched))
    }

    /// The name in a token.
    ///
    /// # Errors
    /// When the token is not valid.
    pub(super) fn subject(&self, token: &str) -> Result<Arc<str>, TokenError> {
        if token.len() > MAX_BYTES {
            return Err(TokenError::TooLong);
        }
        let header = decode_header(token)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let keys = self.keys.load();
        let has_key = |id: &Option<String>| keys.iter().any(|key| key.id == *id);
        // A token that names a key is tried with that one, else with those that have no name.
        let id = header.kid;
        let by_name = id.is_some() && has_key(&id);
        let candidates = keys.iter().filter(|key| {
            key.algorithm == header.alg
                && if by_name { key.id == id } else { id.is_none() || key.id.is_none() }
        });
        for TokenKey { key, validation, .. } in candidates {
            let decoded = decode::<Map<String, Value>>(token, key, validation);
            match decoded.map_err(TokenError::from) {
                Err(TokenError::Unsigned) => {}
                Err(error) => return Err(error),
                Ok(token) => {
                    let name = token.claims.get(&*self.claim).and_then(Value::as_str);
                    let name = name.filter(|name| check_name(name).is_ok());
                    let no_claim = || TokenError::NoClaim(String::from(&*self.claim));
                    return name.map(Arc::from).ok_or_else(no_claim);
                }
            }
        }
        Err(TokenError::Unsigned)
    }
}

#[cfg(test)]
mod tests;
