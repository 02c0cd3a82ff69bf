use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::reload::Watch;

const SECRET: &str = "a secret of more than thirty-two bytes";

/// A private key of this kind in PEM, and its public one.
fn pair(folder: &Path, kind: &[&str]) -> (String, String) {
    let file = folder.join("private.pem");
    let openssl = |args: &[&str], to: &Path| {
        let done = Command::new("openssl").args(args).arg("-out").arg(to).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        fs::read_to_string(to).unwrap()
    };
    let private = openssl(&[&["genpkey", "-algorithm"], kind].concat(), &file);
    let args = ["pkey", "-pubout", "-in", file.to_str().unwrap()];
    (private, openssl(&args, &folder.join("public.pem")))
}

fn rsa(folder: &Path) -> (EncodingKey, String) {
    let (private, public) = pair(folder, &["RSA"]);
    (EncodingKey::from_rsa_pem(private.as_bytes()).unwrap(), public)
}

fn ec(folder: &Path) -> (EncodingKey, String) {
    let (private, public) = pair(folder, &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    (EncodingKey::from_ec_pem(private.as_bytes()).unwrap(), public)
}

fn secret(text: &str) -> EncodingKey {
    EncodingKey::from_secret(text.as_bytes())
}

fn rules() -> TokenRules {
    TokenRules { claim: "sub".into(), leeway: Duration::from_secs(30), ..TokenRules::default() }
}

/// Tokens whose keys are in this file.
fn tokens(text: &str, rules: &TokenRules) -> Result<(Tokens, WatchedKeys, TempDir), AuthFileError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    fs::write(&file, text).unwrap();
    let (tokens, watched) = Tokens::open(file, rules)?;
    Ok((tokens, watched, folder))
}

fn sign(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    encode(header, claims, key).unwrap()
}

/// Of alice, for an hour, with other claims.
fn claims(more: Value) -> Value {
    let mut claims = json!({"sub": "alice", "exp": get_current_timestamp() + 3_600});
    if let (Value::Object(claims), Value::Object(more)) = (&mut claims, more) {
        claims.extend(more);
    }
    claims
}

fn hs256(claims: &Value) -> String {
    sign(&Header::new(Algorithm::HS256), claims, &secret(SECRET))
}

fn jwks(keys: &[(&str, Algorithm, &EncodingKey)]) -> String {
    let jwk = |(id, algorithm, key): &(&str, Algorithm, &EncodingKey)| {
        let mut jwk = Jwk::from_encoding_key(key, *algorithm).unwrap();
        jwk.common.key_id = Some((*id).to_owned());
        jwk
    };
    serde_json::to_string(&JwkSet { keys: keys.iter().map(jwk).collect() }).unwrap()
}

#[test]
fn a_token_of_each_algorithm_names_its_client() {
    let folder = tempfile::tempdir().unwrap();
    let (rsa, rsa_public) = rsa(folder.path());
    let (ec, ec_public) = ec(folder.path());
    let both = format!("{rsa_public}\n{ec_public}");
    let set = jwks(&[("r", Algorithm::RS256, &rsa), ("e", Algorithm::ES256, &ec)]);
    for (file, algorithm, key) in [
        (SECRET, Algorithm::HS256, &secret(SECRET)),
        (&format!("{SECRET}\n"), Algorithm::HS256, &secret(SECRET)),
        (&rsa_public, Algorithm::RS256, &rsa),
        (&ec_public, Algorithm::ES256, &ec),
        (&both, Algorithm::RS256, &rsa),
        (&both, Algorithm::ES256, &ec),
        (&set, Algorithm::RS256, &rsa),
        (&set, Algorithm::ES256, &ec),
    ] {
        let (tokens, ..) = tokens(file, &rules()).unwrap();
        let token = sign(&Header::new(algorithm), &claims(json!({})), key);
        assert_eq!(&*tokens.subject(&token).unwrap(), "alice", "{algorithm:?}");
        let mut forged = token.into_bytes();
        let middle = forged.len() - 20;
        forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
        let forged = tokens.subject(std::str::from_utf8(&forged).unwrap());
        assert!(matches!(forged, Err(TokenError::Unsigned)), "{forged:?}");
    }
}

#[test]
fn a_token_cannot_choose_how_it_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (rsa, public) = rsa(folder.path());
    let (tokens_of_rsa, ..) = tokens(&public, &rules()).unwrap();
    // The public key as a secret: who has only that one cannot sign.
    for text in [public.as_str(), public.trim()] {
        let confused = sign(&Header::new(Algorithm::HS256), &claims(json!({})), &secret(text));
        let refused = tokens_of_rsa.subject(&confused);
        assert!(matches!(refused, Err(TokenError::Unsigned)), "{refused:?}");
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for none in ["none", "None", "NONE", ""] {
        let head = part(&json!({"alg": none, "typ": "JWT"}));
        let unsigned = format!("{head}.{}.", part(&claims(json!({}))));
        let refused = tokens_of_rsa.subject(&unsigned);
        assert!(matches!(refused, Err(TokenError::NoToken)), "{refused:?}");
    }
    // The same key by another algorithm of its family.
    let other = sign(&Header::new(Algorithm::RS512), &claims(json!({})), &rsa);
    assert!(matches!(tokens_of_rsa.subject(&other), Err(TokenError::Unsigned)));
    let mut critical = Header::new(Algorithm::RS256);
    critical.crit = Some(vec!["exp".into()]);
    let critical = sign(&critical, &claims(json!({})), &rsa);
    assert!(matches!(tokens_of_rsa.subject(&critical), Err(TokenError::Critical)));
    let long = sign(&Header::new(Algorithm::RS256), &claims(json!({"x": "x".repeat(9_000)})), &rsa);
    assert!(matches!(tokens_of_rsa.subject(&long), Err(TokenError::TooLong)));
}

#[test]
fn audience_issuer_and_times_are_checked() {
    let now = get_current_timestamp();
    let strict = TokenRules {
        audience: vec!["tidegate".into(), "shop".into()],
        issuer: vec!["https://issuer".into()],
        ..rules()
    };
    let full = json!({"aud": "shop", "iss": "https://issuer"});
    let with = |key: &str, value: Value| {
        let mut claims = claims(full.clone());
        claims[key] = value;
        claims
    };
    let (tokens_of, ..) = tokens(SECRET, &strict).unwrap();
    for right in [
        claims(full.clone()),
        with("aud", json!(["other", "tidegate"])),
        with("exp", json!(now - 10)),
        with("nbf", json!(now + 10)),
    ] {
        assert_eq!(&*tokens_of.subject(&hs256(&right)).unwrap(), "alice", "{right}");
    }
    for (wrong, text) in [
        (with("aud", json!("other")), "another audience"),
        (with("aud", json!([])), "another audience"),
        (with("aud", Value::Null), "claim \"aud\""),
        (with("iss", json!("https://issuer/")), "another issuer"),
        (with("iss", json!(7)), "claim \"iss\""),
        (with("exp", json!(now - 60)), "expired"),
        (with("exp", json!("never")), "claim \"exp\""),
        (with("exp", Value::Null), "claim \"exp\""),
        (with("nbf", json!(now + 60)), "not valid yet"),
        (with("sub", json!(7)), "claim \"sub\""),
        (with("sub", json!("")), "claim \"sub\""),
        (with("sub", json!("a\nb")), "claim \"sub\""),
        (with("sub", Value::Null), "claim \"sub\""),
    ] {
        let told = tokens_of.subject(&hs256(&wrong)).unwrap_err().to_string();
        assert!(told.contains(text), "{wrong}: {told}");
    }
    // A token for somebody else's audience is no token for nobody in particular.
    let (lax, ..) = tokens(SECRET, &rules()).unwrap();
    let told = lax.subject(&hs256(&claims(json!({"aud": "other"})))).unwrap_err();
    assert!(matches!(told, TokenError::Audience));
    let (by_mail, ..) = tokens(SECRET, &TokenRules { claim: "email".into(), ..rules() }).unwrap();
    let mail = hs256(&claims(json!({"email": "a@b"})));
    assert_eq!(&*by_mail.subject(&mail).unwrap(), "a@b");
}

#[test]
fn a_set_is_rotated_by_a_reload_and_a_broken_one_changes_nothing() {
    let [old, new] = ["old", "new"].map(|name| secret(&format!("{SECRET} {name}")));
    let by = |id: Option<&str>, key: &EncodingKey| {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = id.map(str::to_owned);
        sign(&header, &claims(json!({})), key)
    };
    let only_old = jwks(&[("old", Algorithm::HS256, &old)]);
    let (tokens, mut watched, folder) = tokens(&only_old, &rules()).unwrap();
    let mut reload = |text: &str| {
        fs::write(folder.path().join("keys"), text).unwrap();
        assert!(watched.look() && !watched.look());
        watched.status().is_broken()
    };
    assert!(tokens.subject(&by(Some("old"), &old)).is_ok());
    assert!(tokens.subject(&by(Some("new"), &new)).is_err());
    let both = jwks(&[("old", Algorithm::HS256, &old), ("new", Algorithm::HS256, &new)]);
    assert!(!reload(&both));
    for (id, key) in [("old", &old), ("new", &new)] {
        assert!(tokens.subject(&by(Some(id), key)).is_ok(), "{id}");
        assert!(tokens.subject(&by(None, key)).is_ok(), "without kid each is tried");
    }
    assert!(tokens.subject(&by(Some("old"), &new)).is_err(), "the key that is named has to fit");
    assert!(reload("{}"));
    assert!(tokens.subject(&by(Some("new"), &new)).is_ok());
    assert!(!reload(&jwks(&[("new", Algorithm::HS256, &new)])));
    assert!(tokens.subject(&by(Some("old"), &old)).is_err(), "a key that was taken out is void");
}

#[test]
fn keys_that_are_weak_private_or_of_another_kind_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (private, _) = pair(folder.path(), &["RSA"]);
    let (_, small) = pair(folder.path(), &["RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    let (_, large_curve) = pair(folder.path(), &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
    let (_, edwards) = pair(folder.path(), &["ED25519"]);
    let weak = jwks(&[("weak", Algorithm::HS256, &secret("too short"))]);
    let encrypts = json!({"keys": [{"kty": "oct", "use": "enc", "k": "c2VjcmV0"}]}).to_string();
    for (text, part) in [
        ("", "has 0"),
        ("too short", "at least 32 bytes"),
        (&private, "holds a PRIVATE KEY"),
        (&small, "2,048 bits"),
        (&large_curve, "neither RSA nor on the curve P-256"),
        (&edwards, "neither RSA nor on the curve P-256"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "neither RSA"),
        (&weak, "key weak is too small for HS256"),
        (&encrypts, "holds 0 keys"),
        ("{\"keys\": []}", "holds 0 keys"),
        ("{", "is no JWKS"),
    ] {
        let told = tokens(text, &rules()).err().unwrap().to_string();
        assert!(told.contains(part), "{told}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[A-Za-z0-9_.{}\":-]{0,80}", token in "(eyJhbGciOiJIUzI1NiJ9\\.)?[A-Za-z0-9_.-]{0,60}") {
        let _keys = keys::parse(Path::new("keys"), &text, &rules());
        let (tokens, ..) = tokens(SECRET, &rules()).unwrap();
        prop_assert!(tokens.subject(&token).is_err());
    }
}
