//! `tidegate warnings` and `/admin/warnings` of the built binary: nothing in a quiet proxy, and what is not as it should be with its
//! page of the runbook.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use support::client::Client;
use support::counter::{ADD, Added, Gate, add, call, definition, register};
use support::host::Host;
use support::proto::Kind;
use support::proxy::{Proxy, embedded};
use support::tool::run;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_mins(1);

async fn warnings(client: &mut Client) -> Value {
    let reply = client.get("/admin/warnings").await.unwrap();
    assert_eq!(reply.status, 200);
    serde_json::from_slice(&reply.body).unwrap()
}

/// Asks until there is a warning of this kind.
async fn warned(client: &mut Client, kind: &str) -> Value {
    let mut last = Value::Null;
    let found = async {
        loop {
            last = warnings(client).await;
            let all = last["warnings"].as_array().unwrap();
            if let Some(found) = all.iter().find(|warning| warning["kind"] == kind) {
                return found.clone();
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let found = timeout(PATIENCE, found).await.ok();
    found.unwrap_or_else(|| panic!("no {kind}: {last:#}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_as_it_should_be_is_said_with_its_page() {
    let (open, seen) = watch::channel(true);
    let gate = Gate { counter: Arc::default(), open: seen.clone() };
    let mut host = Host::start(Arc::new(gate));
    let (port, directory) = (host.port(), tempfile::tempdir().unwrap());
    let settings = [("TIDEGATE_ADMIN_ADDRESS", "127.0.0.1:0"), ("TIDEGATE_DRAIN_DELAY", "0")];
    let proxy = Proxy::start(&[&embedded(directory.path(), &port)[..], &settings].concat()).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, vec![definition("a", Kind::Named)]).await;
    for value in 1..=30 {
        assert!(matches!(add(&mut client, "a").await.unwrap(), Added::To(to) if to == value));
    }
    assert_eq!(warnings(&mut client).await["warnings"].as_array().unwrap().len(), 0);
    let none = run(&["warnings", "--proxy", proxy.address()], &[]).await;
    assert_eq!(none.said(), "no warnings\n");

    open.send_replace(false);
    let mut callers = JoinSet::new();
    let mut caller = Client::connect(proxy.address()).await.unwrap();
    callers.spawn(async move { caller.invoke(&call("a", ADD)).await });
    let stuck = warned(&mut client, "stuck_turn").await;
    assert_eq!(stuck["runbook"], "turns-stuck", "{stuck:#}");
    assert!(stuck["what"].as_str().unwrap().ends_with("/a"), "{stuck:#}");
    assert!(stuck["sentence"].as_str().unwrap().ends_with("took at most 1s"), "{stuck:#}");
    let said = run(&["warnings", "--proxy", proxy.address()], &[]).await.refused(1);
    eprintln!("{said}");
    open.send_replace(true);
    callers.join_next().await.unwrap().unwrap().unwrap();

    for _ in 0..3 {
        let number = host.stop().await;
        let mut caller = Client::connect(proxy.address()).await.unwrap();
        callers.spawn(async move { caller.invoke(&call("a", ADD)).await });
        sleep(Duration::from_millis(500)).await;
        let gate = Gate { counter: Arc::default(), open: seen.clone() };
        host = Host::start_on(number, Arc::new(gate)).await;
        callers.join_next().await.unwrap().unwrap().unwrap();
    }
    let flaps = warned(&mut client, "flapping_host").await;
    assert_eq!(flaps["what"], format!("127.0.0.1:{port}"), "{flaps:#}");
    assert!(flaps["sentence"].as_str().unwrap().starts_with("3 outages"), "{flaps:#}");
    let page = run(&["warnings", "--runbook", flaps["runbook"].as_str().unwrap()], &[]).await;
    assert!(page.said().starts_with("# TidegateHostAway"));
}
