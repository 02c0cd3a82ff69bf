//! `tidegate tls bootstrap`: what it makes is what the proxy and its clients need.

use std::os::unix::fs::PermissionsExt;

use crate::support::authority::curl;
use crate::support::proxy::Proxy;
use crate::support::tool::run;
use crate::{ACTOR, DELETE, LIMIT};

#[tokio::test]
async fn what_it_makes_lets_a_client_in_by_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("tls");
    let in_it = |file: &str| dir.join(file).to_str().unwrap().to_owned();
    let bootstrap =
        ["tls", "bootstrap", dir.to_str().unwrap(), "--client", "billing", "--days", "30"];
    let said = run(&bootstrap, &[]).await.said();
    assert_eq!(said.matches("written").count(), 3, "{said}");
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.clone()), 0o700);
    for name in ["ca", "server", "client"] {
        assert_eq!(mode(dir.join(format!("{name}.key"))), 0o600, "{name}");
        assert_eq!(mode(dir.join(format!("{name}.pem"))), 0o644, "{name}");
    }

    let (server, key, ca) = (in_it("server.pem"), in_it("server.key"), in_it("ca.pem"));
    let proxy = Proxy::start(&[
        ("PROXY_DATABASE_TYPE", "memory"),
        ("TIDEGATE_DRAIN_DELAY", "0"),
        ("TIDEGATE_TLS_CERT", &server),
        ("TIDEGATE_TLS_KEY", &key),
        ("TIDEGATE_TLS_CLIENT_CA", &ca),
    ])
    .await;
    let url = format!("https://{}{ACTOR}", proxy.address());
    let (certificate, key) = (in_it("client.pem"), in_it("client.key"));
    let shown = ["--cacert", &*ca, "--cert", &certificate, "--key", &key, "-w", "%{http_code}"];
    let printed = curl(&[&shown[..], &DELETE, &[&url]].concat()).await;
    assert!(printed.code == Some(0) && printed.stdout.ends_with("404"), "{printed:?}");
    let log = proxy.said(LIMIT).await.join("\n");
    assert!(log.contains(r#"certificate \"billing\""#), "{log}");

    // From a timer, with the directory alone.
    for again in [&bootstrap[..], &bootstrap[..3]] {
        let said = run(again, &[]).await.said();
        assert_eq!(said.matches("kept").count(), 3, "{said}");
    }
}

#[tokio::test]
async fn what_cannot_be_made_is_told_with_an_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let dir = directory.path().to_str().unwrap();
    let in_a_file = format!("{}/tls", file.to_str().unwrap());
    for (args, code) in [
        (&["tls", "bootstrap", &*in_a_file][..], 73),
        (&["tls", "bootstrap", dir, "--name", "no name"], 64),
        (&["tls", "bootstrap", dir, "--days", "0"], 2),
        (&["tls", "bootstrap", dir, "--client", ""], 2),
    ] {
        run(args, &[]).await.refused(code);
    }
    std::fs::remove_file(directory.path().join("ca.key")).unwrap();
    run(&["tls", "bootstrap", dir], &[]).await.refused(65);
}
