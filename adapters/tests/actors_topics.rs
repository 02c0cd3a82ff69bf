//! Durable topics of the built binary: each event of a committed state counts exactly once at a stateful subscriber, in order,
//! whatever is killed when, and at least once at a stateless one.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use support::client::Client;
use support::host::Host;
use support::json::{Told, register, send};
use support::proxy::{Proxy, embedded};
use support::tool::run;
use support::workflow::{Figures, Workshop};
use tidegate::config::{Config, Flags};
use tidegate_stages::testkit::recognition;
use tokio::process::Command;

/// How often the process is killed.
const ROUNDS: u32 = 8;
/// The same where deliveries are not recognised: a kill before the positions are stored is likely.
const FORGETFUL_ROUNDS: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_of_a_committed_state_counts_once_though_the_proxy_is_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let workshop = Workshop::new(embedded(directory.path(), "1")).publishing();
    let figures = workshop.killed_again_and_again(ROUNDS).await;
    let Figures { effects, runs, bare } = figures.expect("each counts once");
    assert!(effects > 100, "{effects}");
    println!(
        "{ROUNDS} kills: {effects} deliveries counted once at stateful actors (their actions ran {runs} times), {} at least once at \
         a stateless subscriber ({} times)",
        bare.0, bare.1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proof_fails_where_deliveries_are_not_recognised() {
    let directory = tempfile::tempdir().expect("a directory");
    let workshop = Workshop::new(embedded(directory.path(), "1")).publishing().run_by(forgetful);
    let failed = workshop.killed_again_and_again(FORGETFUL_ROUNDS).await;
    let failed = failed.expect_err("some event is doubled");
    assert!(failed.contains("wrong effects"), "{failed}");
}

/// How long something that has to happen may take.
const LIMIT: Duration = Duration::from_secs(30);

async fn started(directory: &Path, port: &str) -> (Proxy, Client) {
    let mut settings = embedded(directory, port);
    settings.push(("TIDEGATE_DURABLE_TOPICS", "orders;start=earliest"));
    let proxy = Proxy::start(&settings).await;
    let client = Client::connect(proxy.address()).await.expect("the proxy is there");
    (proxy, client)
}

async fn publish(client: &mut Client, number: u64) {
    let body = json!({ "payload": { "number": number } }).to_string();
    let to = ("POST", "/api/v1/system/shop/channels/orders");
    let (reply, told) = send(client, to, &[], &body).await;
    assert_eq!((reply.status, &told), (200, &json!({ "subscribers": 2, "dropped": 0 })));
}

/// What an actor heard, in order.
fn heard(told: &Told, actor: &str) -> Vec<u64> {
    let calls = told.calls.lock();
    let of = calls.iter().filter(|(_, body)| body["self"]["name"] == actor);
    of.filter_map(|(_, body)| body["payload"]["number"].as_u64()).collect()
}

/// Waits until each subscriber has this position.
async fn until(client: &mut Client, position: u64) -> Value {
    let path = "/api/v1/system/shop/channels/orders/subscribers";
    let waiting = async {
        loop {
            let (reply, told) = send(client, ("GET", path), &[], "").await;
            assert_eq!(reply.status, 200, "{told}");
            let all = told["subscribers"].as_array().expect("a list");
            if all.len() == 2 && all.iter().all(|one| one["position"] == position) {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("all are there in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn position_and_lag_are_shown_and_an_export_carries_topics_and_positions() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let told = Arc::new(Told::default());
    let host = Host::start(told.clone());
    let port = host.port();
    let (proxy, mut client) = started(&path("store"), &port).await;
    let channels = json!([{ "topic": "orders", "action": "take" }]);
    let named = |name: &str, stateful: bool| json!({ "name": name, "actions": ["take"], "stateful": stateful, "channels": channels });
    let actors = json!([named("invoices", true), named("bare", false)]);
    register(&mut client, &port, &actors).await;
    for number in 1..=5 {
        publish(&mut client, number).await;
    }
    let shown = until(&mut client, 5).await;
    assert_eq!(shown["channel"]["newest"], 5);
    assert_eq!(shown["channel"]["lag"], 0);
    // Nobody hears these.
    host.stop().await;
    for number in 6..=8 {
        publish(&mut client, number).await;
    }
    let listed = run(&["channels", "list", "--proxy", proxy.address()], &[]).await.said();
    assert_eq!(listed, "shop/orders  event 8, 2 subscribers, lag 3, missed 0\n");
    let show = ["channels", "show", "shop/orders", "--proxy", proxy.address()];
    let shown = run(&show, &[]).await.said();
    assert!(shown.ends_with("  bare      event 5, lag 3\n  invoices  event 5, lag 3\n"), "{shown}");
    let (reply, _) = send(&mut client, ("GET", "/metrics"), &[], "").await;
    let metrics = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(metrics.contains("\ntidegate_topic_lag_events 3\n"), "{metrics}");
    proxy.kill().await;

    let (file, store, other) = (path("export"), path("store"), path("other"));
    let file = file.to_str().expect("a path");
    run(&["export", file], &embedded(&store, &port)).await.said();
    run(&["import", file], &embedded(&other, &port)).await.said();
    let host = Host::start(told.clone());
    let port = host.port();
    let (proxy, mut client) = started(&other, &port).await;
    register(&mut client, &port, &actors).await;
    let shown = until(&mut client, 8).await;
    assert_eq!(shown["channel"]["newest"], 8);
    publish(&mut client, 9).await;
    until(&mut client, 9).await;
    let all: Vec<u64> = (1..=9).collect();
    assert_eq!(heard(&told, "invoices"), all);
    // It has no state, and the kill may have come before its position was stored.
    let mut bare = heard(&told, "bare");
    bare.sort_unstable();
    bare.dedup();
    assert_eq!(bare, all);
    assert!(proxy.terminate(LIMIT).await.success());
    host.stop().await;
}

/// This program as a proxy.
fn forgetful() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--ignored", "--exact", "a_proxy_that_recognises_nothing", "--test-threads=2"]);
    command
}

#[test]
#[ignore = "it is the child of another test"]
fn a_proxy_that_recognises_nothing() {
    recognition::switch_off();
    let config = Config::load(&Flags::default()).expect("settings");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(tidegate::app::serve(config)).expect("it serves until it is killed");
}
