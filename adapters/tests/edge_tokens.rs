//! Credentials at the built binary: tokens, passwords, and who needs any.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http_body_util::Full;
use hyper::Request;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use prost::Message;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::client::{Client, Reply};
use support::counter::{ADD, Counter, SYSTEM, call, definition, register};
use support::host::Host;
use support::proto::{InvocationResponse, Kind};
use support::proxy::Proxy;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// How long a change of a file may take to come into effect; it takes 5 s without a signal.
const RELOAD_LIMIT: Duration = Duration::from_mins(1);
const SECRET: &str = "a secret of more than thirty-two bytes";
const ADMIN: &str = "the token of administrators";

/// A proxy, a client of it, and the files that it reads.
struct Guarded {
    _host: Host,
    proxy: Proxy,
    client: Client,
    folder: TempDir,
}

impl Guarded {
    /// With these files; in a setting, `@name` is the path of one.
    async fn start(files: &[(&str, &str)], settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("policies")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let host = Host::start(Arc::new(Counter::default()));
        let path = |value: &str| match value.strip_prefix('@') {
            Some(name) => folder.path().join(name).display().to_string(),
            None => value.to_owned(),
        };
        let mut all = vec![
            ("PROXY_DATABASE_TYPE", "memory".to_owned()),
            ("USER_FUNCTION_HOST", "127.0.0.1".to_owned()),
            ("USER_FUNCTION_PORT", host.port()),
            ("TIDEGATE_POLICIES_DIR", path("@policies")),
        ];
        all.extend(settings.iter().map(|(name, value)| (*name, path(value))));
        let all: Vec<_> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let proxy = Proxy::start(&all).await;
        let client = Client::connect(proxy.address()).await.unwrap();
        Self { _host: host, proxy, client, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn send(&mut self, method: &str, path: &str, body: Vec<u8>, shown: &[&str]) -> Reply {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for shown in shown {
            request = request.header("authorization", *shown);
        }
        self.client.send(request.body(Full::new(body.into())).unwrap()).await.unwrap()
    }

    /// A call of `joe`.
    async fn call(&mut self, shown: &[&str]) -> Reply {
        let path = format!("/api/v1/system/{SYSTEM}/actors/joe/invoke");
        self.send("POST", &path, call("joe", ADD).encode_to_vec(), shown).await
    }

    /// The status of a call, and what it is told.
    async fn told(&mut self, shown: &[&str]) -> (u16, String) {
        let reply = self.call(shown).await;
        (reply.status, reply.decode::<InvocationResponse>().status.unwrap_or_default().message)
    }

    /// Waits until a call has this status.
    async fn until(&mut self, shown: &str, status: u16) {
        let reloaded = timeout(RELOAD_LIMIT, async {
            while self.call(&[shown]).await.status != status {
                sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(reloaded.await.is_ok(), "a call never had status {status}");
    }
}

fn claims(subject: &str) -> Value {
    json!({"sub": subject, "exp": get_current_timestamp() + 3_600})
}

fn bearer(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    format!("Bearer {}", encode(&Header::new(Algorithm::HS256), claims, &key).unwrap())
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn user(name: &str, password: &str) -> String {
    format!("{name}:{}\n", bcrypt::hash(password, 4).unwrap())
}

fn challenges(reply: &Reply) -> Vec<&str> {
    let all = reply.headers.get_all("www-authenticate").iter();
    all.map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_or_a_password_gives_the_name_that_policies_and_rates_count() {
    let files = [
        ("keys", SECRET),
        ("users", &(user("alice", "one") + &user("mallory", "two"))),
        ("policies/a.policy", "identities: alice\n"),
    ];
    let settings = [
        ("TIDEGATE_TOKEN_KEYS", "@keys"),
        ("TIDEGATE_USERS", "@users"),
        ("TIDEGATE_RATE_LIMIT_IDENTITY", "3/m:3"),
    ];
    let mut guarded = Guarded::start(&files, &settings).await;
    register(&mut guarded.client, vec![definition("joe", Kind::Named)]).await;
    assert_eq!(guarded.call(&[]).await.status, 403, "anonymous");
    assert_eq!(guarded.call(&[&basic("mallory", "two")]).await.status, 403);
    let (status, told) = guarded.told(&[&bearer(&claims("mallory"))]).await;
    assert_eq!(status, 403, "{told}");
    for shown in [bearer(&claims("alice")), basic("alice", "one"), basic("alice", "one")] {
        assert_eq!(guarded.call(&[&shown]).await.status, 200, "{shown}");
    }
    assert_eq!(guarded.call(&[&bearer(&claims("alice"))]).await.status, 429);
    assert_eq!(guarded.call(&[&bearer(&claims("mallory"))]).await.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_claim_that_names_a_client_is_a_setting() {
    let files = [("keys", SECRET), ("policies/a.policy", "identities: alice@shop\n")];
    let settings = [("TIDEGATE_TOKEN_KEYS", "@keys"), ("TIDEGATE_TOKEN_CLAIM", "email")];
    let mut guarded = Guarded::start(&files, &settings).await;
    register(&mut guarded.client, vec![definition("joe", Kind::Named)]).await;
    let mut claims = claims("alice@shop");
    let (status, told) = guarded.told(&[&bearer(&claims)]).await;
    assert_eq!(status, 401, "{told}");
    assert!(told.contains("email"), "{told}");
    claims["email"] = json!("mallory@shop");
    assert_eq!(guarded.call(&[&bearer(&claims)]).await.status, 403);
    claims["email"] = json!("alice@shop");
    claims["sub"] = json!("mallory");
    assert_eq!(guarded.call(&[&bearer(&claims)]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_a_401_also_where_none_are_needed() {
    let files = [("keys", SECRET), ("users", &user("alice", "one"))];
    let settings = [
        ("TIDEGATE_TOKEN_KEYS", "@keys"),
        ("TIDEGATE_USERS", "@users"),
        ("TIDEGATE_TOKEN_AUDIENCE", "tidegate"),
        ("TIDEGATE_TOKEN_ISSUER", "https://issuer"),
        ("TIDEGATE_TOKEN_LEEWAY", "10s"),
    ];
    let mut guarded = Guarded::start(&files, &settings).await;
    register(&mut guarded.client, vec![definition("joe", Kind::Named)]).await;
    assert_eq!(guarded.call(&[]).await.status, 200, "nobody needs credentials");
    let good = json!({
        "sub": "alice", "exp": get_current_timestamp() + 60, "aud": "tidegate", "iss": "https://issuer",
    });
    let with = |key: &str, value: Value| {
        let mut claims = good.clone();
        claims[key] = value;
        bearer(&claims)
    };
    assert_eq!(guarded.call(&[&bearer(&good)]).await.status, 200);
    let within_leeway = with("exp", json!(get_current_timestamp() - 5));
    assert_eq!(guarded.call(&[&within_leeway]).await.status, 200);
    let none = {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("Bearer {}.{}.", part(&json!({"alg": "none"})), part(&good))
    };
    for (shown, part) in [
        (with("exp", json!(get_current_timestamp() - 60)), "expired"),
        (with("aud", json!("other")), "another audience"),
        (with("iss", json!("other")), "another issuer"),
        (none, "no JWT"),
        ("Bearer nonsense".to_owned(), "no JWT"),
        (format!("{}x", bearer(&good)), "not signed by a key"),
    ] {
        let reply = guarded.call(&[&shown]).await;
        let told = reply.decode::<InvocationResponse>().status.unwrap().message;
        assert_eq!(reply.status, 401, "{shown}: {told}");
        assert!(told.contains(part), "{told}");
        assert_eq!(challenges(&reply), [r#"Bearer realm="tidegate", error="invalid_token""#]);
        assert_eq!(reply.headers["tidegate-error-source"], "policy");
    }
    for shown in [basic("alice", "two"), basic("carol", "one"), "Basic !".to_owned()] {
        let reply = guarded.call(&[&shown]).await;
        assert_eq!(reply.status, 401, "{shown}");
        assert_eq!(challenges(&reply), [r#"Basic realm="tidegate", charset="UTF-8""#]);
    }
    let both = [bearer(&good), basic("alice", "one")];
    let (status, told) = guarded.told(&[&both[0], &both[1]]).await;
    assert_eq!((status, told.contains("more than once")), (401, true), "{told}");
    let metrics = guarded.send("GET", "/metrics", Vec::new(), &["Bearer nonsense"]).await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    for line in [
        r#"tidegate_credentials_refused_total{means="token"} 6"#,
        r#"tidegate_credentials_refused_total{means="password"} 3"#,
        r#"tidegate_http_requests_total{route="invoke",status="401"} 10"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_everybody_needs_credentials_health_and_the_admin_token_do_without() {
    let settings = [
        ("TIDEGATE_TOKEN_KEYS", "@keys"),
        ("TIDEGATE_AUTHENTICATION", "always"),
        ("TIDEGATE_ADMIN_TOKEN", ADMIN),
    ];
    let mut guarded = Guarded::start(&[("keys", SECRET)], &settings).await;
    let admin = format!("Bearer {ADMIN}");
    let actor = format!("/api/v1/system/{SYSTEM}/actors/joe");
    for (method, path) in [("GET", &*actor), ("DELETE", &actor), ("POST", "/api/v1/system")] {
        let reply = guarded.send(method, path, Vec::new(), &[]).await;
        assert_eq!(reply.status, 401, "{method} {path}");
        assert_eq!(challenges(&reply), [r#"Bearer realm="tidegate""#]);
    }
    for path in ["/health", "/health/readiness", "/metrics"] {
        assert_eq!(guarded.send("GET", path, Vec::new(), &[]).await.status, 200, "{path}");
    }
    // The admin token is no JWT, and is taken.
    assert_eq!(guarded.call(&[&admin]).await.status, 404, "nobody is registered");
    assert_eq!(guarded.call(&[&bearer(&claims("alice"))]).await.status, 404);
    assert_eq!(guarded.call(&["Bearer another"]).await.status, 401);
    assert_eq!(guarded.send("DELETE", &actor, Vec::new(), &[&admin]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_admin_port_has_needs_the_same_credentials() {
    let always = [
        ("TIDEGATE_TOKEN_KEYS", "@keys"),
        ("TIDEGATE_AUTHENTICATION", "always"),
        ("TIDEGATE_ADMIN_ADDRESS", "127.0.0.1:0"),
    ];
    let mut guarded = Guarded::start(&[("keys", SECRET)], &always).await;
    guarded.client = Client::connect(&guarded.proxy.admin().await).await.unwrap();
    let alice = bearer(&claims("alice"));
    for path in ["about", "flow", "waiting", "hot", "warnings", "record", "log-level"] {
        let path = format!("/admin/{path}");
        let reply = guarded.send("GET", &path, Vec::new(), &[]).await;
        assert_eq!(reply.status, 401, "{path}");
        assert_eq!(challenges(&reply), [r#"Bearer realm="tidegate""#]);
        let wrong = guarded.send("GET", &path, Vec::new(), &["Bearer nonsense"]).await;
        assert_eq!(wrong.status, 401, "{path}");
        assert_eq!(guarded.send("GET", &path, Vec::new(), &[&alice]).await.status, 200, "{path}");
    }
    // Of this path the API asks for credentials, as at its own port, and the admin port does not ask before.
    assert_eq!(guarded.send("POST", "/admin/log-level", Vec::new(), &[]).await.status, 405);
    assert_eq!(guarded.send("GET", "/admin/unknown", Vec::new(), &[]).await.status, 401);
    assert_eq!(guarded.send("GET", "/admin/unknown", Vec::new(), &[&alice]).await.status, 404);
    for path in ["/health", "/metrics", "/openapi.json", "/console"] {
        assert_eq!(guarded.send("GET", path, Vec::new(), &[]).await.status, 200, "{path}");
    }
    assert_eq!(guarded.call(&[]).await.status, 401);
    assert_eq!(guarded.call(&[&alice]).await.status, 404, "nobody is registered");

    // The admin token is no JWT, and opens all.
    let settings = [&always[..], &[("TIDEGATE_ADMIN_TOKEN", ADMIN)]].concat();
    let mut guarded = Guarded::start(&[("keys", SECRET)], &settings).await;
    guarded.client = Client::connect(&guarded.proxy.admin().await).await.unwrap();
    let admin = format!("Bearer {ADMIN}");
    assert_eq!(guarded.send("GET", "/admin/hot", Vec::new(), &[&admin]).await.status, 200);
    assert_eq!(guarded.send("GET", "/admin/hot", Vec::new(), &[&alice]).await.status, 403);
    // The console asks for the token then.
    let reply = guarded.send("GET", "/admin/hot", Vec::new(), &[]).await;
    assert_eq!(reply.status, 403);
    assert!(String::from_utf8_lossy(&reply.body).contains("TIDEGATE_ADMIN_TOKEN"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_this_machine_need_no_credentials_where_the_network_does() {
    let settings = [("TIDEGATE_USERS", "@users"), ("TIDEGATE_AUTHENTICATION", "network")];
    let files = [("users", &*user("alice", "one"))];
    let mut guarded = Guarded::start(&files, &settings).await;
    register(&mut guarded.client, vec![definition("joe", Kind::Named)]).await;
    assert_eq!(guarded.call(&[]).await.status, 200);
    assert_eq!(guarded.call(&[&basic("alice", "two")]).await.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_while_the_proxy_runs_and_a_public_key_is_no_secret() {
    let old = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let new = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let (old_public, new_public) = (old.public_key_pem(), new.public_key_pem());
    let of = |algorithm, key: &EncodingKey| {
        let token = encode(&Header::new(algorithm), &claims("alice"), key).unwrap();
        format!("Bearer {token}")
    };
    let old =
        of(Algorithm::RS256, &EncodingKey::from_rsa_pem(old.serialize_pem().as_bytes()).unwrap());
    let new =
        of(Algorithm::ES256, &EncodingKey::from_ec_pem(new.serialize_pem().as_bytes()).unwrap());
    let settings = [("TIDEGATE_TOKEN_KEYS", "@keys"), ("TIDEGATE_AUTHENTICATION", "always")];
    let mut guarded = Guarded::start(&[("keys", &old_public)], &settings).await;
    assert_eq!(guarded.call(&[&old]).await.status, 404);
    assert_eq!(guarded.call(&[&new]).await.status, 401);
    // Signed with the public key as a secret, by hand: a library refuses to.
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&json!({"alg": "HS256"})), part(&claims("alice")));
    for secret in [old_public.as_str(), old_public.trim()] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()));
        assert_eq!(guarded.call(&[&format!("Bearer {text}.{signature}")]).await.status, 401);
    }

    let keys = guarded.path("keys");
    fs::write(&keys, format!("{old_public}{new_public}")).unwrap();
    guarded.proxy.signal(Signal::HUP);
    guarded.until(&new, 404).await;
    assert_eq!(guarded.call(&[&old]).await.status, 404, "both count meanwhile");
    fs::write(&keys, &new_public).unwrap();
    guarded.proxy.signal(Signal::HUP);
    guarded.until(&old, 401).await;
    assert_eq!(guarded.call(&[&new]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_passwords_holds_up_nobody_whose_password_was_checked() {
    // A hash that takes long, as it should.
    let dear = format!("alice:{}\n", bcrypt::hash("one", 10).unwrap());
    let settings = [("TIDEGATE_USERS", "@users"), ("TIDEGATE_AUTHENTICATION", "always")];
    let mut guarded = Guarded::start(&[("users", &dear)], &settings).await;
    let good = basic("alice", "one");
    assert_eq!(guarded.call(&[&good]).await.status, 404);
    let mut flood = tokio::task::JoinSet::new();
    for number in 0..150 {
        let mut client = Client::connect(guarded.proxy.address()).await.unwrap();
        flood.spawn(async move {
            let request = Request::get(format!("/api/v1/system/{SYSTEM}/actors/joe"))
                .header("host", "localhost")
                .header("authorization", basic("alice", &number.to_string()))
                .body(Full::default());
            client.send(request.unwrap()).await.unwrap().status
        });
    }
    for _ in 0..20 {
        assert_eq!(guarded.call(&[&good]).await.status, 404, "it is remembered");
    }
    let statuses = flood.join_all().await;
    assert!(statuses.iter().all(|status| [401, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&503), "a queue of passwords has a bound");
}

#[tokio::test]
async fn files_and_settings_that_cannot_be_used_end_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    for (name, value, part) in [
        ("TIDEGATE_TOKEN_KEYS", file("short", "secret"), "at least 32 bytes"),
        ("TIDEGATE_TOKEN_KEYS", "/nowhere".into(), "/nowhere: cannot be read"),
        ("TIDEGATE_USERS", file("users", "alice:one"), "users:1: has no bcrypt hash"),
        ("TIDEGATE_AUTHENTICATION", "always".into(), "needs TIDEGATE_TOKEN_KEYS or TIDEGATE_USERS"),
    ] {
        let (code, told) =
            Proxy::refused(&[(name, value.as_str()), ("PROXY_DATABASE_TYPE", "memory")]).await;
        assert_eq!(code, Some(64), "{told}");
        assert!(told.contains(part), "{told}");
    }
}
