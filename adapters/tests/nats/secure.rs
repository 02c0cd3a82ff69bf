//! Secure: what the proxy shows to NATS, and TLS.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::server::Nats;
use super::support::proxy::Proxy;
use super::support::tool;
use super::{Caller, add, until};

const PASSWORD: &str = "correct-horse";

/// A proxy with these settings is connected.
async fn connects(nats: &Nats, settings: &[(&str, &str)]) {
    let mut caller = Caller::connected(&nats.servers, settings).await;
    // The server answers, that nobody is there.
    let (reply, answer) = caller.call("nowhere", "joe", add()).await;
    assert_eq!(reply.status, 404, "{settings:?}: {answer}");
}

/// A proxy with these settings serves, is not connected, and says this in its log; and none of the secrets.
async fn is_kept_out(nats: &Nats, settings: &[(&str, &str)], told: &str, secrets: &[&str]) {
    let mut caller = Caller::start(&nats.servers, settings).await;
    until("a try to connect has failed", async || {
        let seen = caller.proxy.log();
        seen.iter().any(|line| line.contains(told))
    })
    .await;
    assert_eq!(caller.call("nowhere", "joe", add()).await.0.status, 503);
    assert_eq!(caller.client.get("/health/readiness").await.unwrap().status, 200);
    let said = caller.proxy.said(Duration::from_secs(30)).await.join("\n");
    assert!(secrets.iter().all(|secret| !said.contains(secret)), "{said}");
}

fn file(directory: &TempDir, name: &str, text: &str) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const AUTH: (&str, &str) = ("SPAWN_INTERNAL_NATS_AUTH", "true");
const JWT: (&str, &str) = ("SPAWN_INTERNAL_NATS_AUTH_TYPE", "jwt");

#[tokio::test]
async fn a_user_and_a_password_are_shown() {
    let nats = Nats::with(1, &[("NATS_AUTH", "user"), ("NATS_PASS", PASSWORD)]).await;
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "password", &format!("{PASSWORD}\n"));
    let pass = ("SPAWN_INTERNAL_NATS_AUTH_PASS", PASSWORD);
    connects(&nats, &[AUTH, pass]).await;
    connects(&nats, &[AUTH, ("SPAWN_INTERNAL_NATS_AUTH_PASS_FILE", &path)]).await;
    let wrong = ("SPAWN_INTERNAL_NATS_AUTH_PASS", "battery-staple");
    is_kept_out(&nats, &[AUTH, wrong], "authorization violation", &["battery-staple"]).await;
    let nobody = ("SPAWN_INTERNAL_NATS_AUTH_USER", "nobody");
    is_kept_out(&nats, &[AUTH, nobody, pass], "authorization violation", &[PASSWORD]).await;
    is_kept_out(&nats, &[], "authorization violation", &[]).await;
}

#[tokio::test]
async fn a_token_is_shown() {
    let nats = Nats::with(1, &[("NATS_AUTH", "token"), ("NATS_PASS", PASSWORD)]).await;
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "token", PASSWORD);
    connects(&nats, &[AUTH, JWT, ("SPAWN_INTERNAL_NATS_AUTH_JWT", PASSWORD)]).await;
    connects(&nats, &[AUTH, JWT, ("SPAWN_INTERNAL_NATS_AUTH_JWT_FILE", &path)]).await;
    let wrong = ("SPAWN_INTERNAL_NATS_AUTH_JWT", "battery-staple");
    is_kept_out(&nats, &[AUTH, JWT, wrong], "authorization violation", &["battery-staple"]).await;
}

/// A token as NATS has it, for `subject`, signed by `issuer`.
fn token(issuer: &KeyPair, subject: &KeyPair, nats: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(&json!({ "typ": "JWT", "alg": "ed25519-nkey" }));
    let (issuer_key, subject_key) = (issuer.public_key(), subject.public_key());
    let claims = part(&json!({
        "jti": "1", "iat": 1, "iss": issuer_key, "sub": subject_key, "name": "test", "nats": nats,
    }));
    let signed = format!("{header}.{claims}");
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn user(account: &KeyPair, is_bearer: bool) -> (KeyPair, String) {
    let user = KeyPair::new_user();
    let claims = json!({
        "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "bearer_token": is_bearer,
        "type": "user", "version": 2,
    });
    let token = token(account, &user, &claims);
    (user, token)
}

#[tokio::test]
async fn a_bearer_jwt_or_a_file_of_credentials_is_shown_to_servers_with_accounts() {
    let directory = tempfile::tempdir().unwrap();
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let of_operator = token(&operator, &operator, &json!({ "type": "operator", "version": 2 }));
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1,
    });
    let claims = json!({ "limits": limits, "type": "account", "version": 2 });
    let of_account = token(&operator, &account, &claims);
    let key = account.public_key();
    let accounts = format!(
        "operator: {of_operator}\nresolver: MEMORY\nresolver_preload: {{ {key}: {of_account} }}\n"
    );
    let accounts = file(&directory, "accounts.conf", &accounts);
    let nats = Nats::with(1, &[("NATS_AUTH", &accounts)]).await;

    let (_, bearer) = user(&account, true);
    connects(&nats, &[AUTH, JWT, ("SPAWN_INTERNAL_NATS_AUTH_JWT", &bearer)]).await;
    let (pair, signed) = user(&account, false);
    let no_bearer = [AUTH, JWT, ("SPAWN_INTERNAL_NATS_AUTH_JWT", &signed)];
    is_kept_out(&nats, &no_bearer, "authorization violation", &[&signed]).await;

    let seed = pair.seed().unwrap();
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{signed}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    let credentials = file(&directory, "proxy.creds", &text);
    connects(&nats, &[("TIDEGATE_NATS_CREDS_FILE", &credentials)]).await;
    // Of an account that the server does not know.
    let (pair, signed) = user(&KeyPair::new_account(), false);
    let text = text.replace(&seed, &pair.seed().unwrap());
    let (begin, end) = ("-----BEGIN NATS USER JWT-----\n", "\n------END NATS USER JWT");
    let former = text.split(begin).nth(1).unwrap().split(end).next().unwrap().to_owned();
    let other = file(&directory, "other.creds", &text.replace(&former, &signed));
    let settings = [("TIDEGATE_NATS_CREDS_FILE", other.as_str())];
    is_kept_out(&nats, &settings, "authorization violation", &[&signed]).await;
}

pub(crate) async fn certificates(directory: &Path) {
    tool::run(&["tls", "bootstrap", directory.to_str().unwrap()], &[]).await.said();
}

#[tokio::test]
async fn connections_are_encrypted_and_both_sides_show_certificates() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certificates(directory.path()).await;
    certificates(other.path()).await;
    let path =
        |directory: &TempDir, name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let tls = ("SPAWN_INTERNAL_NATS_TLS", "true");
    let (ca, foreign) = (path(&directory, "ca.pem"), path(&other, "ca.pem"));
    let (certificate, key) = (path(&directory, "client.pem"), path(&directory, "client.key"));
    let roots = ("TIDEGATE_NATS_TLS_CA", ca.as_str());
    let shown =
        [("TIDEGATE_NATS_TLS_CERT", certificate.as_str()), ("TIDEGATE_NATS_TLS_KEY", key.as_str())];
    let folder = directory.path().to_str().unwrap();

    let nats = Nats::with(1, &[("NATS_TLS", folder)]).await;
    connects(&nats, &[tls, roots]).await;
    is_kept_out(&nats, &[tls, ("TIDEGATE_NATS_TLS_CA", &foreign)], "TLS is on", &[]).await;

    let nats = Nats::with(1, &[("NATS_TLS", folder), ("NATS_TLS_VERIFY", "1")]).await;
    connects(&nats, &[tls, roots, shown[0], shown[1]]).await;
    is_kept_out(&nats, &[tls, roots], "TLS is on", &[]).await;

    // Who asks for TLS does not speak in the clear.
    let nats = Nats::start().await;
    is_kept_out(&nats, &[tls, roots], "TLS is on", &[]).await;
}

#[tokio::test]
async fn settings_that_lack_one_another_are_refused_at_the_start() {
    let on = ("SPAWN_USE_INTERNAL_NATS", "true");
    let credentials = ("TIDEGATE_NATS_CREDS_FILE", "/nowhere/proxy.creds");
    for (settings, told) in [
        (&[on, AUTH, JWT][..], "needs SPAWN_INTERNAL_NATS_AUTH_JWT"),
        (&[on, AUTH, credentials], "one of them is enough"),
        (&[on, credentials], "/nowhere/proxy.creds"),
        (&[on, ("TIDEGATE_NATS_TLS_CA", "ca.pem")], "needs SPAWN_INTERNAL_NATS_TLS=true"),
        (&[on, ("SPAWN_INTERNAL_NATS_HOSTS", "nats://a:secret@b:4222")], "settings of their own"),
        (&[on, ("SPAWN_INTERNAL_NATS_HOSTS", "http://b")], "must be addresses"),
    ] {
        let (code, said) = Proxy::refused(settings).await;
        assert_eq!(code, Some(64), "{said}");
        assert!(said.contains(told) && !said.contains("secret"), "{said}");
    }
}
