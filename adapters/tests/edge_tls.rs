//! TLS of the built binary, with curl and `openssl s_client` at the other end.

#![allow(clippy::unwrap_used, reason = "it is test code")]

#[path = "edge_tls/bootstrap.rs"]
mod bootstrap;
#[path = "edge_tls/client.rs"]
mod client;
#[path = "edge_tls/commands.rs"]
mod commands;
#[path = "edge_tls/hosts.rs"]
mod hosts;
#[path = "edge_tls/renewal.rs"]
mod renewal;
mod support;

use std::time::Duration;

use support::authority::{Authority, Issued, curl, s_client};
use support::proxy::Proxy;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the proxy may take to do what it does in a second.
const LIMIT: Duration = Duration::from_secs(30);

const ACTOR: &str = "/api/v1/system/s/actors/nobody";
const SPAWN: &str = "/api/v1/system/s/actors/spawn";
const DELETE: [&str; 2] = ["-X", "DELETE"];

/// A proxy with TLS, and the authority that its clients trust.
struct Secured {
    proxy: Proxy,
    authority: Authority,
    directory: TempDir,
}

impl Secured {
    async fn start(more: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new(directory.path(), "authority");
        let issued = authority.server("server", 90);
        let proxy = serve(&issued, more).await;
        Self { proxy, authority, directory }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.proxy.address())
    }

    /// Asks with curl, which trusts the authority; status, or else the exit code.
    async fn ask(&self, path: &str, args: &[&str]) -> Result<(String, String), String> {
        let url = self.url(path);
        let asked = [&["--cacert", &self.authority.root, "-w", "\n%{http_code}", &url], args];
        let printed = curl(&asked.concat()).await;
        let (body, status) = printed.stdout.rsplit_once('\n').unwrap_or_default();
        if printed.code == Some(0) {
            return Ok((status.into(), body.into()));
        }
        Err(format!("curl ends with {:?}: {}", printed.code, printed.stderr))
    }
}

async fn serve(server: &Issued, more: &[(&str, &str)]) -> Proxy {
    let own = [
        ("PROXY_DATABASE_TYPE", "memory"),
        ("TIDEGATE_DRAIN_DELAY", "0"),
        ("TIDEGATE_TLS_CERT", &server.certificate),
        ("TIDEGATE_TLS_KEY", &server.key),
    ];
    Proxy::start(&[&own, more].concat()).await
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_is_served_and_one_that_does_not_ends_the_handshake() {
    let secured = Secured::start(&[]).await;
    let (status, body) = secured.ask("/health", &[]).await.unwrap();
    assert_eq!((status.as_str(), body.as_str()), ("200", r#"{"status":"up"}"#));
    let other = Authority::new(secured.directory.path(), "other");
    let printed = curl(&["--cacert", &other.root, &secured.url("/health")]).await;
    assert_eq!(printed.code, Some(60), "{printed:?}");

    let in_the_clear = curl(&[&format!("http://{}/health", secured.proxy.address())]).await;
    assert_ne!(in_the_clear.code, Some(0), "{in_the_clear:?}");
}

#[tokio::test]
async fn a_server_that_has_expired_or_another_name_is_seen_by_its_clients() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let expired = serve(&authority.server("expired", -1), &[]).await;
    let url = format!("https://{}/health", expired.address());
    let printed = curl(&["--cacert", &authority.root, &url]).await;
    assert!(printed.code == Some(60) && printed.stderr.contains("expired"), "{printed:?}");
    let log = expired.said(LIMIT).await.join("\n");
    assert!(log.contains("ERROR") && log.contains("a certificate has ended"), "{log}");

    let elsewhere = authority.issue("elsewhere", "elsewhere", &["elsewhere.example"], 90);
    let elsewhere = serve(&elsewhere, &[]).await;
    let url = format!("https://{}/health", elsewhere.address());
    let printed = curl(&["--cacert", &authority.root, &url]).await;
    assert_eq!(printed.code, Some(60), "{printed:?}");
    let port = elsewhere.address().rsplit_once(':').unwrap().1;
    let resolved = format!("elsewhere.example:{port}:127.0.0.1");
    let url = format!("https://elsewhere.example:{port}/health");
    let printed = curl(&["--cacert", &authority.root, "--resolve", &resolved, &url]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
}

#[tokio::test]
async fn where_a_certificate_is_required_a_client_without_one_gets_health_and_metrics_only() {
    let directory = tempfile::tempdir().unwrap();
    let clients = Authority::new(directory.path(), "clients");
    let secured = Secured::start(&[("TIDEGATE_TLS_CLIENT_CA", &clients.root)]).await;
    for path in ["/health", "/health/readiness", "/health/liveness", "/metrics"] {
        assert_eq!(secured.ask(path, &[]).await.unwrap().0, "200", "{path}");
    }
    let post = ["-X", "POST", "-H", "content-type: application/octet-stream", "--data-binary", ""];
    for (path, args) in [(ACTOR, &[][..]), (ACTOR, &DELETE), (SPAWN, &post)] {
        let (status, answer) = secured.ask(path, &[args, &["-i"][..]].concat()).await.unwrap();
        let is_told = answer.contains("certificate") && answer.contains("TIDEGATE_TLS_CLIENT_AUTH");
        assert!(status == "403" && is_told, "{path} {args:?}: {status} {answer}");
        assert!(answer.contains("tidegate-error-source: policy"), "{path} {args:?}: {answer}");
    }
    let right = clients.client("billing", 90);
    let answered = secured.ask(ACTOR, &right.shown()).await.unwrap();
    assert_eq!(answered.0, "404", "there is no such actor");
    let late = (clients.client("late", -1), "certificate expired");
    let stranger = (secured.authority.client("stranger", 90), "unknown ca");
    for (refused, told) in [late, stranger] {
        secured.ask("/health", &refused.shown()).await.unwrap_err();
        let shown = ["-tls1_2", "-cert", &refused.certificate, "-key", &refused.key];
        let printed = s_client(secured.proxy.address(), &shown, "").await;
        assert!(printed.code == Some(1) && printed.stderr.contains(told), "{printed:?}");
    }
    secured.ask(ACTOR, &[&right.shown()[..], &DELETE].concat()).await.unwrap();
    let log = secured.proxy.said(LIMIT).await.join("\n");
    let deleted = log.lines().find(|line| line.contains("DELETE") && !line.contains("refused"));
    assert!(deleted.is_some_and(|line| line.contains(r#"certificate \"billing\""#)), "{log}");
}

#[tokio::test]
async fn where_a_certificate_is_optional_clients_without_one_are_served_too() {
    let directory = tempfile::tempdir().unwrap();
    let clients = Authority::new(directory.path(), "clients");
    let ca = ("TIDEGATE_TLS_CLIENT_CA", &*clients.root);
    let secured = Secured::start(&[ca, ("TIDEGATE_TLS_CLIENT_AUTH", "optional")]).await;
    assert_eq!(secured.ask(ACTOR, &[]).await.unwrap().0, "404");
    let stranger = secured.authority.client("stranger", 90);
    secured.ask(ACTOR, &stranger.shown()).await.expect_err("one that is shown has to be right");
}

#[tokio::test]
async fn both_versions_of_tls_and_of_http_are_spoken() {
    let secured = Secured::start(&[]).await;
    let address = secured.proxy.address();
    let trusted = ["-verify_return_error", "-verify_hostname", "localhost", "-CAfile"];
    let trusted = [&trusted[..], &[&*secured.authority.root]].concat();
    for (version, spoken) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let printed = s_client(address, &[&trusted[..], &[version]].concat(), "Q\n").await;
        let talks = printed.stdout.contains("Verify return code: 0 (ok)");
        assert!(talks && printed.stdout.contains(spoken), "{printed:?}");
    }
    // A client of today's OpenSSL does without TLS 1.1 unless its level of security is lowered.
    let old = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    let printed = s_client(address, &[&trusted[..], &old].concat(), "Q\n").await;
    assert!(printed.code != Some(0) && printed.stderr.contains("alert"), "{printed:?}");

    for (offered, chosen) in [("h2", "h2"), ("http/1.1", "http/1.1"), ("h2,http/1.1", "h2")] {
        let printed = s_client(address, &["-alpn", offered], "Q\n").await;
        assert!(printed.stdout.contains(&format!("ALPN protocol: {chosen}")), "{printed:?}");
    }
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let (url, root) = (secured.url("/health"), &*secured.authority.root);
        let printed = curl(&["--cacert", root, flag, "-w", "%{http_version}", &url]).await;
        assert_eq!(printed.stdout, format!(r#"{{"status":"up"}}{version}"#), "{printed:?}");
    }
}

#[tokio::test]
async fn a_slow_handshake_ends_in_time_and_holds_up_nobody() {
    let secured = Secured::start(&[("TIDEGATE_HTTP_HEAD_TIMEOUT", "1s")]).await;
    let mut slow = Vec::new();
    for begun in 0..40 {
        let mut stream = TcpStream::connect(secured.proxy.address()).await.unwrap();
        // The head of a record with a ClientHello, which does not come; or nothing at all.
        if begun % 2 == 0 {
            stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
        }
        slow.push(stream);
    }
    assert_eq!(secured.ask("/health", &[]).await.unwrap().0, "200");
    for stream in &mut slow {
        let ended = timeout(LIMIT, stream.read(&mut [0; 64])).await.expect("it is ended in time");
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    let (_, metrics) = secured.ask("/metrics", &[]).await.unwrap();
    let late = r#"tidegate_tls_handshakes_failed_total{reason="late"} 40"#;
    assert!(metrics.contains(late), "{metrics}");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_ends_the_start_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let (one, other) = (authority.server("one", 90), authority.server("other", 90));
    for (certificate, key, told) in [
        ("/nowhere.pem", &*one.key, "TIDEGATE_TLS_CERT=/nowhere.pem"),
        (&one.certificate, "/nowhere.key", "TIDEGATE_TLS_KEY=/nowhere.key"),
        (&one.key, &one.key, "holds no certificate"),
        (&one.certificate, &one.certificate, "holds no private key"),
        (&one.certificate, &other.key, "TIDEGATE_TLS_KEY"),
    ] {
        let (code, said) = Proxy::refused(&[
            ("PROXY_DATABASE_TYPE", "memory"),
            ("TIDEGATE_TLS_CERT", certificate),
            ("TIDEGATE_TLS_KEY", key),
        ])
        .await;
        assert!(code == Some(78) && said.contains(told), "{code:?} {said}");
        assert!(!said.contains("PRIVATE KEY"), "no part of a key is told: {said}");
    }
}
