//! Fuzz: credentials, and the files that they are checked by.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::json;

use super::*;
use crate::fuzz::run;

const SECRET: &str = "a secret of more than thirty-two bytes";
/// Nobody has its private half.
const EC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9
q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==
-----END PUBLIC KEY-----
";

fn token(algorithm: Algorithm, claims: &serde_json::Value) -> String {
    let header = Header { kid: None, ..Header::new(algorithm) };
    encode(&header, claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

#[test]
fn credentials() {
    let folder = tempfile::tempdir().unwrap();
    let (keys, users) = (folder.path().join("keys"), folder.path().join("users"));
    fs::write(&keys, SECRET).unwrap();
    fs::write(&users, format!("bob:{}", bcrypt::hash("one", 4).unwrap())).unwrap();
    let token_rules = TokenRules { claim: "sub".into(), ..TokenRules::default() };
    let options = AuthOptions {
        token_keys: Some(keys),
        token_rules,
        users: Some(users),
        ..AuthOptions::default()
    };
    let (auth, _watched) = Auth::open(options, Some(AdminToken::new("admin"))).unwrap();
    let now = get_current_timestamp();
    let right = format!(
        "Bearer {}",
        token(Algorithm::HS256, &json!({"sub": "alice", "exp": now + 36_000}))
    );
    let seeds = [
        right.clone(),
        format!(
            "bearer {}",
            token(Algorithm::HS512, &json!({"sub": "alice", "exp": now + 36_000}))
        ),
        format!(
            "Bearer {}",
            token(Algorithm::HS256, &json!({"sub": "alice", "exp": now - 36_000}))
        ),
        // {"alg":"none"}
        format!("Bearer eyJhbGciOiJub25lIn0.{}.", right.split('.').nth(1).unwrap()),
        format!("Basic {}", STANDARD.encode("bob:one")),
        format!("basic  {}", STANDARD.encode("bob:two")),
        "Bearer admin".into(),
        "Digest username=\"bob\"".into(),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    run("credentials", seeds.map(String::into_bytes).into(), |bytes| {
        // What hyper accepts as a header; anything else never gets here.
        let Ok(given) = HeaderValue::from_bytes(bytes) else { return };
        let shown = given.to_str().unwrap_or_default().to_owned();
        let headers = [(AUTHORIZATION, given)].into_iter().collect();
        let client = auth.client(Identity::default(), std::future::ready(true), &headers);
        let Ok(client) = runtime.block_on(client) else { return };
        let Some(name) = client.token_subject else { return };
        let (_, credentials) = shown.split_once(' ').unwrap();
        match &*name {
            "alice" => assert_eq!(credentials.trim(), right.strip_prefix("Bearer ").unwrap()),
            "bob" => assert_eq!(STANDARD.decode(credentials.trim()).unwrap(), b"bob:one"),
            other => panic!("nobody is called {other}"),
        }
    });
}

#[test]
fn files_of_keys() {
    // Longer than what a text of an error may quote.
    let octets = "c2VjcmV0LW9mLW1vcmUtdGhhbi10aGlydHktdHdvLWJ5dGVz";
    let seeds = [
        SECRET.to_owned(),
        EC_KEY.repeat(2),
        json!({"keys": [{"kty": "oct", "alg": "HS256", "k": octets}]}).to_string(),
        json!({"keys": [
            {"kty": "EC", "crv": "P-256", "use": "sig", "kid": "a",
                "x": "EVs_o5-uQbTjL3chynL4wXgUg2R9q9UU8I5mEovUf84",
                "y": "kGe5DgSIycKp8w9aJmoHhB1sB3QTugfnRWm5nU_TzsY"},
            {"kty": "oct", "alg": "HS512", "kid": "b", "k": octets},
        ]})
        .to_string(),
    ];
    let rules = TokenRules { claim: "sub".into(), ..TokenRules::default() };
    run("token-keys", seeds.map(String::into_bytes).into(), |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        match keys::parse(Path::new("keys"), text, &rules) {
            Ok(keys) => assert!((1..=64).contains(&keys.len())),
            Err(error) => {
                let told = error.to_string();
                // A part of a key of 16 bytes is too much of it.
                let parts = octets.as_bytes().windows(22).chain(SECRET.as_bytes().windows(22));
                let quoted = parts
                    .map(|part| str::from_utf8(part).unwrap())
                    .find(|part| told.contains(part));
                assert_eq!(quoted, None, "{told}");
                assert!(told.len() < 500, "{told}");
            }
        }
    });
}

#[test]
fn files_of_users() {
    let hash = bcrypt::hash("one", 4).unwrap();
    let seeds = [
        format!("# users\nalice:{hash}\n\nbob:{hash}\n"),
        format!("alice:{}\n", hash.replacen("$2b$", "$2y$", 1)),
    ];
    run("users", seeds.map(String::into_bytes).into(), |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        match users::parse(Path::new("users"), text) {
            Ok(hashes) => {
                assert!(!hashes.is_empty());
                for (name, hash) in hashes {
                    assert!(text.contains(&format!("{name}:{hash}")));
                    // Never a panic, whatever the file holds; costly ones are not tried.
                    if hash.contains("$04$") {
                        drop(bcrypt::verify("two", &hash));
                    }
                }
            }
            Err(error) => {
                let told = error.to_string();
                assert!(!told.contains(&hash[7..]), "{told}");
            }
        }
    });
}
