//! Keys: reads a file of keys that sign tokens: a JWKS, public keys in PEM, or one secret.
//!
//! Each key is bound to one algorithm, whatever a token's header says: a token that names another algorithm than its
//! key's is refused, and so is one that names none.

use std::fmt;
use std::path::Path;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::{AuthFileError, TokenRules};

/// Size of the file at most, in bytes.
pub(super) const MAX_BYTES: u64 = 256 << 10;
/// Keys at most: a token that names none is tried with each.
const MAX_KEYS: usize = 64;
/// Size of a secret at least, in bytes: that of the hash (RFC 7518, 3.2).
const MIN_SECRET_BYTES: usize = 32;
/// Size of the modulus of an RSA key at least, in bytes.
const MIN_RSA_BYTES: usize = 256;
/// Size of a point on P-256, uncompressed.
const P256_BYTES: usize = 65;

/// A key and what a token that it signs has to say.
pub(super) struct TokenKey {
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
    pub(super) validation: Validation,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, algorithm, .. } = self;
        f.debug_struct("TokenKey")
            .field("id", id)
            .field("algorithm", algorithm)
            .finish_non_exhaustive()
    }
}

/// Reads the text of the file.
///
/// # Errors
/// When it holds no key that can be used, or one that is too weak.
pub(super) fn parse(
    file: &Path,
    text: &str,
    rules: &TokenRules,
) -> Result<Vec<TokenKey>, AuthFileError> {
    let wrong = |text: String| AuthFileError { file: file.display().to_string(), line: None, text };
    let text = text.trim();
    let found = if text.starts_with('{') {
        jwks(text)
    } else if text.starts_with("-----BEGIN") {
        pem(text)
    } else if text.len() < MIN_SECRET_BYTES {
        Err(format!("a secret has at least {MIN_SECRET_BYTES} bytes, this one has {}", text.len()))
    } else {
        Ok(vec![(None, Algorithm::HS256, DecodingKey::from_secret(text.as_bytes()))])
    };
    let found = found.map_err(wrong)?;
    if found.is_empty() || found.len() > MAX_KEYS {
        let text = format!(
            "holds {} keys for HS256, RS256 or ES256, it must be 1 to {MAX_KEYS}",
            found.len()
        );
        return Err(wrong(text));
    }
    Ok(found
        .into_iter()
        .map(|(id, algorithm, key)| {
            let validation = rules.validation(algorithm);
            TokenKey { id, algorithm, key, validation }
        })
        .collect())
}

type Found = (Option<String>, Algorithm, DecodingKey);

/// Keys for something else than our algorithms are left alone: a provider's file has such.
fn jwks(text: &str) -> Result<Vec<Found>, String> {
    // Its own text may quote a key.
    let set: JwkSet = serde_json::from_str(text).map_err(|error| {
        format!("is no JWKS: a mistake in line {}, column {}", error.line(), error.column())
    })?;
    let mut found = Vec::new();
    for jwk in &set.keys {
        let Some(algorithm) = algorithm(jwk) else { continue };
        let id = jwk.common.key_id.clone();
        let called = id.as_deref().unwrap_or("without kid");
        let key = DecodingKey::from_jwk(jwk).map_err(|error| format!("key {called}: {error}"))?;
        let is_strong = match &jwk.algorithm {
            AlgorithmParameters::RSA(key) => key.n.len() * 3 / 4 >= MIN_RSA_BYTES,
            AlgorithmParameters::EllipticCurve(_) => bytes(&key) == P256_BYTES,
            _ => bytes(&key) >= MIN_SECRET_BYTES,
        };
        if !is_strong {
            return Err(format!("key {called} is too small for {algorithm:?}"));
        }
        found.push((id, algorithm, key));
    }
    Ok(found)
}

/// The algorithm of a key that signs, when it is one of ours.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
        _ => return None,
    };
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature);
    let named = jwk.common.key_algorithm;
    let is_ours = named.is_none_or(|named| named.to_string() == format!("{algorithm:?}"));
    (signs && is_ours).then_some(algorithm)
}

/// Reads public keys, one after the other.
fn pem(text: &str) -> Result<Vec<Found>, String> {
    const BEGIN: &str = "-----BEGIN ";
    let blocks = text.split(BEGIN).skip(1);
    blocks
        .map(|block| {
            let label = block.split("-----").next().unwrap_or_default();
            if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") {
                // What follows a broken label may be a key, which is told nobody.
                let is_label = label.len() < 32
                    && label.bytes().all(|it| it == b' ' || it.is_ascii_uppercase());
                let label = if is_label { label } else { "block of unknown kind" };
                return Err(format!(
                    "holds a {label}: only public keys are needed, others are not taken"
                ));
            }
            let block = format!("{BEGIN}{block}");
            if let Ok(key) = DecodingKey::from_rsa_pem(block.as_bytes()) {
                let is_strong = bytes(&key) >= MIN_RSA_BYTES;
                return is_strong
                    .then_some((None, Algorithm::RS256, key))
                    .ok_or_else(|| "an RSA key has at least 2,048 bits".into());
            }
            let key = DecodingKey::from_ec_pem(block.as_bytes());
            let key = key.ok().filter(|key| bytes(key) == P256_BYTES);
            key.map(|key| (None, Algorithm::ES256, key))
                .ok_or_else(|| "a public key is neither RSA nor on the curve P-256".into())
        })
        .collect()
}

fn bytes(key: &DecodingKey) -> usize {
    key.try_get_as_bytes().map_or(0, <[u8]>::len)
}
