//! Certificates that are renewed while the proxy runs, and those that soon have to be.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::client::Trust;
use crate::support::authority::{Authority, Issued, curl};
use crate::support::counter::{Added, Counter, add, definition, register};
use crate::support::host::Host;
use crate::support::proto::Kind;
use crate::{ACTOR, LIMIT, Secured, serve};

const RENEWALS: usize = 5;
const CALLERS: usize = 8;

/// Puts other files in the place of those that are used, one after the other, as `mv` does.
fn replace(used: &Issued, with: &Issued) {
    std::fs::rename(&with.certificate, &used.certificate).unwrap();
    std::fs::rename(&with.key, &used.key).unwrap();
}

/// Calls until it is stopped, half of the time over connections of its own; how many calls it made, and the certificates that
/// it saw.
async fn load(
    trust: Trust,
    address: String,
    actor: String,
    stopped: CancellationToken,
) -> (u32, BTreeSet<Vec<u8>>) {
    let (mut kept, first) = trust.connect(&address).await.unwrap();
    let (mut calls, mut seen) = (0, BTreeSet::from([first]));
    while !stopped.is_cancelled() {
        let (mut fresh, shown) = trust.connect(&address).await.expect("a handshake");
        seen.insert(shown);
        for client in [&mut kept, &mut fresh] {
            calls += 1;
            let added = add(client, &actor).await.expect("an answer");
            assert!(matches!(added, Added::To(value) if value == calls), "{calls}: {added:?}");
        }
    }
    (calls, seen)
}

#[tokio::test]
async fn a_renewal_under_load_fails_no_call() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let used = authority.server("server", 90);
    let host = Host::start(Arc::new(Counter::default()));
    let port = host.port();
    let host = [("USER_FUNCTION_HOST", "127.0.0.1"), ("USER_FUNCTION_PORT", &*port)];
    let proxy = serve(&used, &host).await;
    let trust = Trust::in_root(&authority.root);
    let actor = |number: usize| format!("a{number}");
    let (mut client, mut shown) = trust.connect(proxy.address()).await.unwrap();
    let actors = (0..CALLERS).map(|number| definition(&actor(number), Kind::Named));
    register(&mut client, actors.collect()).await;

    let (stopped, mut callers) = (CancellationToken::new(), JoinSet::new());
    for number in 0..CALLERS {
        let address = proxy.address().to_owned();
        callers.spawn(load(trust.clone(), address, actor(number), stopped.clone()));
    }
    for _ in 0..RENEWALS {
        replace(&used, &authority.server("next", 90));
        proxy.signal(Signal::HUP);
        let renewed = timeout(LIMIT, async {
            loop {
                let (_, now) = trust.connect(proxy.address()).await.unwrap();
                if now != shown {
                    return now;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        shown = renewed.await.expect("the new certificate is shown");
        // Some calls go on with it before it is replaced.
        sleep(Duration::from_millis(200)).await;
    }
    stopped.cancel();
    let (mut calls, mut seen) = (0, BTreeSet::new());
    for (called, shown) in callers.join_all().await {
        calls += called;
        seen.extend(shown);
    }
    eprintln!("{calls} calls, {RENEWALS} renewals, {} certificates seen", seen.len());
    assert_eq!(seen.len(), RENEWALS + 1, "callers saw each certificate");
}

#[tokio::test]
async fn a_broken_new_file_keeps_the_old_one_and_is_told_until_it_is_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let used = authority.server("server", 90);
    let secured = Secured { proxy: serve(&used, &[]).await, authority, directory };
    let told = async |state: &str| {
        let is_told = timeout(LIMIT, async {
            loop {
                let (_, body) = secured.ask("/health/readiness?verbose", &[]).await.unwrap();
                if body.contains(&format!(r#""certificates":"{state}""#)) {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
            }
        });
        is_told.await.unwrap_or_else(|_| panic!("it is told that they are {state}"));
    };
    let broken = r#"tidegate_reload_broken{what="certificates"} "#;
    told("ok").await;
    std::fs::write(&used.certificate, "-----BEGIN CERTIFICATE-----\nrubbish\n").unwrap();
    secured.proxy.signal(Signal::HUP);
    told("broken").await;
    let (_, metrics) = secured.ask("/metrics", &[]).await.unwrap();
    assert!(metrics.contains(&format!("{broken}1")), "{metrics}");
    assert!(metrics.contains(r#"tidegate_reloads_total{what="certificates",outcome="broken"} 1"#));

    // Without a signal it takes some seconds.
    replace(&used, &secured.authority.server("next", 90));
    told("ok").await;
    let (_, metrics) = secured.ask("/metrics", &[]).await.unwrap();
    assert!(metrics.contains(&format!("{broken}0")), "{metrics}");
    let log = secured.proxy.said(LIMIT).await.join("\n");
    assert!(log.contains("ERROR") && log.contains("TIDEGATE_TLS_CERT="), "{log}");
}

#[tokio::test]
async fn other_roots_of_clients_count_from_the_next_connection_on() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| Authority::new(directory.path(), name));
    let secured = Secured::start(&[("TIDEGATE_TLS_CLIENT_CA", &first.root)]).await;
    let [of_first, of_second] =
        [(&first, "a"), (&second, "b")].map(|(authority, name)| authority.client(name, 90));
    assert_eq!(secured.ask(ACTOR, &of_first.shown()).await.unwrap().0, "404");
    secured.ask(ACTOR, &of_second.shown()).await.unwrap_err();
    std::fs::rename(&second.root, &first.root).unwrap();
    secured.proxy.signal(Signal::HUP);
    let changed = timeout(LIMIT, async {
        while secured.ask(ACTOR, &of_second.shown()).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    changed.await.expect("the new root counts");
    secured.ask(ACTOR, &of_first.shown()).await.expect_err("the old root counts no more");
}

#[tokio::test]
async fn a_certificate_that_ends_within_30_days_is_warned_of() {
    for (days, is_soon) in [(29, true), (32, false)] {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new(directory.path(), "authority");
        let proxy = serve(&authority.server("server", days), &[]).await;
        let url = format!("https://{}/metrics", proxy.address());
        let metrics = curl(&["--cacert", &authority.root, &url]).await.stdout;
        let name =
            r#"tidegate_tls_certificate_end_timestamp_seconds{setting="TIDEGATE_TLS_CERT"} "#;
        let end = metrics.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
        let now = tidegate_stages::ports::Clock::now(&tidegate::clock::SystemClock).0 / 1_000_000;
        let left = end.parse::<u64>().unwrap() - now;
        assert_eq!(left.div_ceil(24 * 60 * 60), u64::try_from(days).unwrap());
        let log = proxy.said(LIMIT).await.join("\n");
        assert_eq!(log.contains("a certificate ends soon"), is_soon, "{log}");
    }
}
