//! The built binary: how many schedules there may be, and what the audit tells of their changes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use support::client::Client;
use support::counter::{ADD, Counter, SYSTEM, definition, register};
use support::host::Host;
use support::proto::Kind;
use support::proxy::Proxy;
use support::schedules::{create, path, send};

const LIMIT: Duration = Duration::from_mins(1);

#[tokio::test]
async fn schedules_are_bounded_and_their_changes_are_in_the_audit() {
    let host = Host::start(Arc::new(Counter::default()));
    let directory = tempfile::tempdir().unwrap();
    let audit = directory.path().join("audit");
    let port = host.port();
    let proxy = Proxy::start(&[
        ("PROXY_DATABASE_TYPE", "memory"),
        ("USER_FUNCTION_PORT", &port),
        ("TIDEGATE_MAX_SCHEDULES_PER_SYSTEM", "2"),
        ("TIDEGATE_AUDIT_FILE", audit.to_str().unwrap()),
        ("TIDEGATE_DRAIN_DELAY", "0"),
    ])
    .await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    create(&mut client, "a", "joe", json!({ "paused": true })).await;
    create(&mut client, "b", "joe", json!({ "paused": true })).await;
    let spec = json!({ "name": "c", "actor": "joe", "action": ADD, "every_ms": 1000 });
    let (status, answer) = send(&mut client, Method::POST, "", spec.clone()).await;
    let text = answer["error"].as_str().unwrap();
    assert_eq!(status, 503);
    assert!(text.contains("has 2 schedules") && text.contains("_PER_SYSTEM is 2"), "{text}");
    for (method, rest, status) in [
        (Method::POST, "/a/resume", 200),
        (Method::POST, "/a/run", 200),
        (Method::GET, "/a", 200),
        (Method::GET, "", 200),
        (Method::POST, "/a/pause", 200),
        (Method::DELETE, "/a", 200),
        (Method::DELETE, "/a", 404),
    ] {
        let (found, answer) = send(&mut client, method, rest, Value::Null).await;
        assert_eq!(found, status, "{rest}: {answer}");
    }
    assert_eq!(send(&mut client, Method::PUT, "/c", spec).await.0, 200, "one is gone");
    assert!(proxy.terminate(LIMIT).await.success());

    let text = std::fs::read_to_string(&audit).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ended: Vec<_> = lines
        .filter(|line| line["outcome"] != "begun")
        .map(|line| ["what", "outcome"].map(|name| line[name].as_str().unwrap().to_owned()))
        .collect();
    let expected = [
        ("POST", "", "created a"),
        ("POST", "", "created b"),
        ("POST", "", "no capacity for one more"),
        ("POST", "/a/resume", "done"),
        ("POST", "/a/run", "done"),
        ("POST", "/a/pause", "done"),
        ("DELETE", "/a", "done"),
        ("DELETE", "/a", "there is no schedule a"),
        ("PUT", "/c", "done"),
    ];
    assert_eq!(ended.len(), expected.len(), "{ended:?} of {SYSTEM}");
    for ([what, outcome], (method, rest, says)) in ended.iter().zip(expected) {
        assert_eq!(*what, format!("{method} {}", path(rest)));
        assert!(outcome.contains(says), "{what}: {outcome}");
    }
}
