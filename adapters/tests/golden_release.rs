//! A data directory and an export that the built binary of each release wrote hold everything for the next versions.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use support::client::Client;
use support::fixture::copy;
use support::host::Host;
use support::json::{Told, call, register, send};
use support::proxy::{Proxy, embedded};
use support::tool::{run, store_in};
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_mins(1);
const COUNT: &str = "/api/v1/system/shop/actors";
const ORDERS: &str = "/api/v1/system/shop/channels/orders";
/// The releases, with the events in the durable topic `orders`, which is new in 0.3.0.
const RELEASES: [(&str, u64); 2] = [("0.2.0", 0), ("0.3.0", 2)];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn actors() -> Value {
    let named = |name: &str| json!({ "name": name, "actions": ["add"] });
    let listener = json!({ "name": "listener", "actions": ["add"], "channels": [{"topic": "news", "action": "add"}] });
    let reader = json!({ "name": "reader", "actions": ["add"], "channels": [{"topic": "orders", "action": "add"}] });
    let cart = json!({ "name": "cart", "kind": "unnamed", "actions": ["add"], "state": {"count": 7}, "tags": {"a": "ä"} });
    json!([named("joe"), named("mail"), named("asleep"), listener, reader, cart])
}

async fn start(directory: &Path) -> (Proxy, Client, Host) {
    let host = Host::start(Arc::new(Told::default()));
    let mut settings = embedded(directory, "1");
    settings.push(("TIDEGATE_DURABLE_TOPICS", "orders"));
    let proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, &host.port(), &actors()).await;
    (proxy, client, host)
}

async fn ask(client: &mut Client, method: &str, path: &str, body: &Value) -> Value {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let accept = [("accept", "application/json")];
    let (reply, answer) = send(client, (method, path), &accept, &text).await;
    assert_eq!(reply.status, 200, "{method} {path}: {answer}");
    answer
}

async fn add(client: &mut Client, actor: &str, more: Value) -> Value {
    let mut given = json!({ "action": "add" });
    given.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (reply, answer) = call(client, actor, &given).await;
    assert_eq!(reply.status, 200, "{answer}");
    answer["payload"].clone()
}

async fn count(client: &mut Client, actor: &str) -> Value {
    ask(client, "GET", &format!("{COUNT}/{actor}"), &Value::Null).await["state"]["count"].clone()
}

/// Exports the store of a stopped proxy; returns the lines without header and sums.
async fn export(directory: &Path, file: &Path) -> Vec<String> {
    run(&["export", file.to_str().unwrap()], &store_in(directory)).await.said();
    lines(file)
}

fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().skip(1).map(|line| line.split(",\"sum\"").next().unwrap().to_owned()).collect()
}

/// Writes the fixture; run by hand at a release.
#[tokio::test]
#[ignore = "writes into the source tree"]
async fn write_the_directory_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let directory = golden(&format!("directory-{version}"));
    assert!(!directory.exists(), "golden data is never overwritten");
    let (proxy, mut client, _host) = start(&directory).await;
    for _ in 0..3 {
        add(&mut client, "joe", json!({})).await;
        ask(&mut client, "POST", &format!("{COUNT}/joe/checkpoint"), &Value::Null).await;
    }
    add(&mut client, "cart-1", json!({ "register_ref": "cart" })).await;
    ask(&mut client, "POST", "/api/v1/actors/pause?system=shop&name=asleep", &Value::Null).await;
    let effects =
        json!([{ "actor": "asleep", "action": "add" }, { "actor": "nobody", "action": "add" }]);
    let told = json!({ "state": {"count": 1}, "effects": effects });
    add(&mut client, "mail", json!({ "payload": { "answer": told } })).await;
    let later = 32_503_680_000_000_u64;
    add(&mut client, "joe", json!({ "scheduled_to": later })).await;
    let night = json!({ "name": "night", "actor": "joe", "action": "add", "cron": "0 3 * * *", "zone": "Europe/Berlin" });
    ask(&mut client, "POST", "/api/v1/system/shop/schedules", &night).await;
    ask(&mut client, "POST", "/api/v1/system/shop/schedules/night/pause", &Value::Null).await;
    ask(&mut client, "POST", "/api/v1/system/shop/channels/news", &json!({ "payload": {} })).await;
    for _ in 0..2 {
        ask(&mut client, "POST", ORDERS, &json!({ "payload": {} })).await;
    }
    until(&mut client, &format!("{COUNT}/reader"), |state| state["state"]["count"] == 2).await;
    until(&mut client, "/api/v1/effects?state=dead", |answer| {
        answer["effects"].as_array().unwrap().len() == 1
    })
    .await;
    assert!(proxy.terminate(LIMIT).await.success());
    export(&directory, &golden(&format!("export-{version}.jsonl"))).await;
}

async fn until(client: &mut Client, path: &str, reached: impl Fn(&Value) -> bool) -> Value {
    let waits = timeout(LIMIT, async {
        loop {
            let accept = [("accept", "application/json")];
            let (reply, answer) = send(client, ("GET", path), &accept, "").await;
            // An actor may have no state yet.
            if reply.status == 200 && reached(&answer) {
                return answer;
            }
            sleep(Duration::from_millis(50)).await;
        }
    });
    waits.await.unwrap_or_else(|_| panic!("{path} does not get there"))
}

/// What the directory holds, seen by a user of the running proxy; and it goes on from there.
async fn holds_everything(directory: &Path, orders: u64) {
    let (proxy, mut client, _host) = start(directory).await;
    assert_eq!(count(&mut client, "joe").await, 3);
    let history = ask(&mut client, "GET", &format!("{COUNT}/joe/revisions"), &Value::Null).await;
    assert_eq!(history["revisions"].as_array().unwrap().len(), 3, "{history}");
    assert_eq!(add(&mut client, "joe", json!({})).await, json!({ "count": 4 }));
    assert_eq!(add(&mut client, "cart-1", json!({})).await, json!({ "count": 9 }));
    let schedule =
        ask(&mut client, "GET", "/api/v1/system/shop/schedules/night", &Value::Null).await;
    assert_eq!(schedule["state"], "paused", "{schedule}");
    let heard = count(&mut client, "listener").await.as_u64().unwrap();
    let published = json!({ "payload": {} });
    let reached = ask(&mut client, "POST", "/api/v1/system/shop/channels/news", &published).await;
    assert_eq!(reached["subscribers"], 1, "{reached}");
    let listener = format!("{COUNT}/listener");
    until(&mut client, &listener, |state| state["state"]["count"] == heard + 1).await;

    ask(&mut client, "POST", ORDERS, &published).await;
    until(&mut client, "/api/v1/channels?system=shop", |answer| {
        let topics = answer["channels"].as_array().unwrap();
        let orders_of = topics.iter().find(|topic| topic["topic"] == "orders");
        orders_of.is_some_and(|topic| topic["newest"] == orders + 1 && topic["lag"] == 0)
    })
    .await;
    assert_eq!(count(&mut client, "reader").await, orders + 1);

    let effects = ask(&mut client, "GET", "/api/v1/effects", &Value::Null).await;
    assert_eq!(effects["effects"].as_array().unwrap().len(), 2, "{effects}");
    let paused = ask(&mut client, "GET", "/api/v1/actors?paused=true", &Value::Null).await;
    assert_eq!(paused["actors"][0]["name"], "asleep", "{paused}");
    ask(&mut client, "POST", "/api/v1/actors/resume?system=shop&name=asleep", &Value::Null).await;
    let asleep = format!("{COUNT}/asleep");
    until(&mut client, &asleep, |state| state["state"]["count"] == 1).await;
    until(&mut client, "/api/v1/effects", |left| left["effects"].as_array().unwrap().len() == 1)
        .await;
    assert!(proxy.terminate(LIMIT).await.success());
}

#[tokio::test]
async fn an_export_of_each_release_is_imported_with_everything() {
    for (version, orders) in RELEASES {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        let file = golden(&format!("export-{version}.jsonl"));
        run(&["import", file.to_str().unwrap()], &store_in(&store)).await.said();
        holds_everything(&store, orders).await;
    }
}

#[tokio::test]
async fn a_directory_of_each_release_opens_with_everything_and_exports_what_it_exported_then() {
    for (version, orders) in RELEASES {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        copy(&golden(&format!("directory-{version}")), &store);
        let now = export(&store, &directory.path().join("file")).await;
        assert_eq!(now, lines(&golden(&format!("export-{version}.jsonl"))), "{version}");
        for kind in ["revision", "outbox", "due", "schedule", "pause"] {
            let is_there = |line: &String| line.starts_with(&format!("{{\"{kind}\""));
            assert!(now.iter().any(is_there), "{version}, {kind}: {now:?}");
        }
        holds_everything(&store, orders).await;
    }
}
