//! The commands that ask a running proxy, over TLS.

use std::sync::Arc;

use crate::client::Trust;
use crate::serve;
use crate::support::authority::{Authority, Issued};
use crate::support::counter::{Counter, SYSTEM, add, definition, register};
use crate::support::host::Host;
use crate::support::proto::Kind;
use crate::support::proxy::Proxy;
use crate::support::tool::{Ran, run, store_in};

/// A proxy with TLS that has called its actor `joe` twice.
struct Asked {
    proxy: Proxy,
    authority: Authority,
    server: Issued,
    directory: tempfile::TempDir,
    _host: Host,
}

impl Asked {
    async fn start(more: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new(directory.path(), "authority");
        let server = authority.server("server", 90);
        let (host, store) = (Host::start(Arc::new(Counter::default())), directory.path().join("s"));
        let port = host.port();
        let hosts = [
            ("USER_FUNCTION_HOST", "127.0.0.1"),
            ("USER_FUNCTION_PORT", &port),
            ("TIDEGATE_REVISIONS", "every"),
        ];
        let proxy = serve(&server, &[&store_in(&store), &hosts[..], more].concat()).await;
        let trust = Trust::in_root(&authority.root);
        let (mut client, _) = trust.connect(proxy.address()).await.unwrap();
        register(&mut client, vec![definition("joe", Kind::Named)]).await;
        for _ in 0..2 {
            add(&mut client, "joe").await.unwrap();
        }
        Self { proxy, authority, server, directory, _host: host }
    }

    /// Runs a command that is told the address, anywhere.
    async fn far(&self, args: &[&str], settings: &[(&str, &str)]) -> Ran {
        let address = format!("https://{}", self.proxy.address());
        let elsewhere = self.directory.path().join("elsewhere");
        let settings = [&store_in(&elsewhere), settings].concat();
        run(&[args, &["--proxy", &address]].concat(), &settings).await
    }

    /// Runs a command in the environment of the proxy, but for its certificate.
    async fn near(&self, args: &[&str], server: &Issued) -> Ran {
        let (_, port) = self.proxy.address().rsplit_once(':').unwrap();
        let settings = [
            ("PROXY_HTTP_PORT", port),
            ("TIDEGATE_TLS_CERT", server.certificate.as_str()),
            ("TIDEGATE_TLS_KEY", &server.key),
            ("PROXY_DATABASE_TYPE", "memory"),
        ];
        run(args, &settings).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_ask_a_proxy_whose_certificate_they_trust_and_no_other() {
    let asked = Asked::start(&[]).await;
    let (actor, root) = (format!("{SYSTEM}/joe"), asked.authority.root.clone());
    let trusting = [("TIDEGATE_PROXY_TLS_CA", root.as_str())];
    assert_eq!(asked.far(&["health"], &trusting).await.said(), "ready\n");
    let state = asked.far(&["state", &actor], &trusting).await.said();
    assert!(state.contains("tidegate.test.Mark"), "{state}");

    let other = Authority::new(asked.directory.path(), "other");
    for settings in [&[][..], &[("TIDEGATE_PROXY_TLS_CA", other.root.as_str())]] {
        let told = asked.far(&["health"], settings).await.refused(69);
        assert!(told.contains("UnknownIssuer") && told.contains("TIDEGATE_PROXY_TLS_CA"), "{told}");
    }
    let missing = asked.directory.path().join("none.pem");
    let missing = [("TIDEGATE_PROXY_TLS_CA", missing.to_str().unwrap())];
    let told = asked.far(&["health"], &missing).await.refused(78);
    assert!(told.contains("none.pem"), "{told}");
    // In the clear it is told what to do.
    let bare = run(&["health", "--proxy", asked.proxy.address()], &trusting).await.refused(69);
    assert!(bare.contains("https://"), "{bare}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_the_certificate_does_not_have_is_refused_and_the_proxy_beside_is_known_by_its_own()
 {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let server = authority.issue("server", "tidegate", &["tidegate.shop"], 90);
    let proxy = serve(&server, &[]).await;
    let address = format!("https://{}", proxy.address());
    let root = [("TIDEGATE_PROXY_TLS_CA", authority.root.as_str())];
    let told = run(&["health", "--proxy", &address], &root).await.refused(69);
    assert!(told.contains("not valid for name"), "{told}");

    let host = Host::start(Arc::new(Counter::default()));
    let asked = Asked { proxy, authority, server, directory, _host: host };
    assert_eq!(asked.near(&["health"], &asked.server).await.said(), "ready\n");
    // Another certificate, of the same authority and with the right name, is not the proxy's own.
    let own = asked.authority.issue("again", "tidegate", &["tidegate.shop"], 90);
    let told = asked.near(&["health"], &own).await.refused(69);
    assert!(told.contains("TIDEGATE_TLS_CERT"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_clients_need_a_certificate_commands_show_theirs() {
    let directory = tempfile::tempdir().unwrap();
    let clients = Authority::new(directory.path(), "clients");
    let settings =
        |auth| [("TIDEGATE_TLS_CLIENT_CA", &*clients.root), ("TIDEGATE_TLS_CLIENT_AUTH", auth)];
    let asked = Asked::start(&settings("optional")).await;
    let required = serve(&asked.server, &settings("required")).await;
    let address = format!("https://{}", required.address());
    let trusting = [("TIDEGATE_PROXY_TLS_CA", asked.authority.root.as_str())];
    let shown = clients.client("operator", 90);
    let showing = [
        trusting[0],
        ("TIDEGATE_PROXY_TLS_CERT", &shown.certificate),
        ("TIDEGATE_PROXY_TLS_KEY", &shown.key),
    ];
    let actor = format!("{SYSTEM}/joe");
    let state = ["state", &actor, "--proxy", &address];
    assert_eq!(run(&["health", "--proxy", &address], &trusting).await.said(), "ready\n");
    let told = run(&state, &trusting).await.refused(70);
    assert!(told.contains("HTTP 403") && told.contains("client certificate"), "{told}");
    let told = run(&state, &showing).await.refused(70);
    assert!(told.contains("HTTP 404"), "it is let in, and knows no such actor: {told}");
    let alone = [trusting[0], ("TIDEGATE_PROXY_TLS_CERT", shown.certificate.as_str())];
    let told = run(&state, &alone).await.refused(64);
    assert!(told.contains("needs TIDEGATE_PROXY_TLS_KEY"), "{told}");

    // Every command that asks.
    let older = format!("{actor}@1");
    let backup = asked.directory.path().join("backup");
    let backup = backup.to_str().unwrap();
    for (args, code) in [
        (&["history", &actor][..], 0),
        (&["diff", &older, &actor], 1),
        (&["restore", &actor, "--revision", "1"], 0),
        (&["backup", backup], 0),
        (&["delete", &actor], 0),
    ] {
        let ran = asked.far(args, &showing).await;
        assert_eq!(ran.code, Some(code), "{args:?}: {ran:?}");
    }
    let told = asked.far(&["state", &actor], &showing).await.refused(70);
    assert!(told.contains("HTTP 404"), "{told}");
}
