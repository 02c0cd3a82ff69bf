//! What administrators did, and what was refused, is written down.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use serde_json::Value;
use support::client::{Client, Reply};
use support::counter::{ADD, Counter, SYSTEM, call, definition, register};
use support::host::Host;
use support::namespace::run_on_device;
use support::proto::Kind;
use support::proxy::Proxy;
use tokio::time::{sleep, timeout};

const TOKEN: &str = "open sesame";
const LIMIT: Duration = Duration::from_mins(1);

/// A proxy with a token and an actor `joe`.
async fn start(settings: &[(&str, &str)]) -> (Proxy, Host, Client) {
    let host = Host::start(Arc::new(Counter::default()));
    let port = host.port();
    let own = [
        ("PROXY_DATABASE_TYPE", "memory"),
        ("USER_FUNCTION_PORT", port.as_str()),
        ("TIDEGATE_ADMIN_TOKEN", TOKEN),
        ("TIDEGATE_DRAIN_DELAY", "0"),
    ];
    let proxy = Proxy::start(&[&own[..], settings].concat()).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    assert_eq!(client.invoke(&call("joe", ADD)).await.unwrap().0, 200);
    (proxy, host, client)
}

async fn ask(client: &mut Client, method: &str, path: &str, token: Option<&str>) -> Reply {
    let path = format!("/api/v1/system/{SYSTEM}/actors/{path}");
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    client.send(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap()
}

/// Asks the admin port for one of its own paths.
async fn look_at(client: &mut Client, name: &str) -> Reply {
    let request = Request::builder()
        .uri(format!("/admin/{name}"))
        .header("host", "localhost")
        .header("authorization", format!("Bearer {TOKEN}"));
    client.send(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap()
}

/// The lines of a file, each with who, what and the outcome.
fn lines(path: &Path) -> Vec<[String; 3]> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(!text.contains(TOKEN), "{text}");
    let told = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        ["who", "what", "outcome"].map(|name| line[name].as_str().unwrap().to_owned())
    };
    text.lines().map(told).collect()
}

#[tokio::test]
async fn each_administrative_request_is_in_the_file_and_the_refused_ones_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit");
    let (proxy, _host, mut client) = start(&[
        ("TIDEGATE_AUDIT_FILE", path.to_str().unwrap()),
        ("SPAWN_PROXY_LOGGER_LEVEL", "error"),
    ])
    .await;
    assert_eq!(lines(&path).len(), 0, "calls and registrations are not administration");
    let joe = format!("/api/v1/system/{SYSTEM}/actors/joe");
    for (method, rest, token, status) in [
        ("POST", "joe/checkpoint", Some(TOKEN), 200),
        ("GET", "joe/revisions/99", Some(TOKEN), 404),
        ("DELETE", "joe", Some("wrong"), 403),
        ("POST", "joe/restore?revision=1", None, 403),
        ("DELETE", "a%0ab%1b%5b2J", None, 403),
    ] {
        assert_eq!(ask(&mut client, method, rest, token).await.status, status, "{method} {rest}");
    }
    let said = proxy.said(LIMIT).await;
    let found = lines(&path);
    let administrator = "127.0.0.1 with the administrator's token";
    let expected = [
        (administrator, format!("POST {joe}/checkpoint"), "begun"),
        (administrator, format!("POST {joe}/checkpoint"), "done"),
        (administrator, format!("GET {joe}/revisions/99"), "begun"),
        (administrator, format!("GET {joe}/revisions/99"), "has no revision 99"),
        ("127.0.0.1", format!("DELETE {joe}"), "refused: the bearer token is not the one"),
        ("127.0.0.1", format!("POST {joe}/restore?revision=1"), "refused: needs the header"),
        ("127.0.0.1", joe.replace("joe", "a%0ab%1b%5b2J"), "refused: needs the header"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ([who, what, outcome], expected) in found.iter().zip(&expected) {
        assert_eq!(who, expected.0);
        assert!(what.contains(&expected.1), "{what}");
        assert!(outcome.contains(expected.2), "{outcome}");
    }
    // The log has one line for each, whatever its level.
    let logged = said.iter().filter(|line| line.contains(" audit: ")).count();
    assert_eq!(logged, 5, "{said:?}");
    assert!(!said.iter().any(|line| line.contains(TOKEN)));
}

#[tokio::test]
async fn a_call_that_a_policy_refuses_has_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let (path, policies) = (directory.path().join("audit"), directory.path().join("policies"));
    refuse_moe(&policies);
    let (_proxy, _host, mut client) = start(&[
        ("TIDEGATE_AUDIT_FILE", path.to_str().unwrap()),
        ("TIDEGATE_POLICIES_DIR", policies.to_str().unwrap()),
    ])
    .await;
    assert_eq!(client.invoke(&call("moe", ADD)).await.unwrap().0, 403);
    assert_eq!(ask(&mut client, "GET", "moe", None).await.status, 403);
    assert_eq!(client.invoke(&call("joe", ADD)).await.unwrap().0, 200);
    let moe = format!("/api/v1/system/{SYSTEM}/actors/moe");
    let expected = [(format!("POST {moe}/invoke"), ADD), (format!("GET {moe}"), "get")];
    let found = lines(&path);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ([who, what, outcome], (asked, action)) in found.iter().zip(&expected) {
        assert_eq!((who.as_str(), what), ("127.0.0.1", asked));
        let told = format!("refused: 127.0.0.1 may not call action {action} of actor");
        assert!(outcome.starts_with(&told), "{outcome}");
    }
}

/// A policy that allows everything but calls of `moe`.
fn refuse_moe(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    std::fs::write(folder.join("no-moe.policy"), "type: deny\ntargets: moe\n").unwrap();
}

#[tokio::test]
async fn a_log_in_json_has_the_texts_without_quotes_of_their_own() {
    let (proxy, _host, mut client) = start(&[("TIDEGATE_LOG_FORMAT", "json")]).await;
    assert_eq!(ask(&mut client, "DELETE", "joe", Some("wrong")).await.status, 403);
    let said = proxy.said(LIMIT).await;
    let lines: Vec<Value> =
        said.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let audited = lines.iter().find(|line| line["target"] == "audit");
    let audited = audited.unwrap_or_else(|| panic!("{said:?}"));
    let text = |name: &str| audited["fields"][name].as_str().unwrap_or_default();
    assert_eq!(text("who"), "127.0.0.1", "{audited}");
    assert_eq!(text("what"), format!("DELETE /api/v1/system/{SYSTEM}/actors/joe"));
    assert!(text("outcome").starts_with("refused: the bearer token is not the one"), "{audited}");
}

#[tokio::test]
async fn a_recording_is_in_the_file_and_looks_that_consoles_repeat_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let kept = directory.path().join("kept");
    std::fs::create_dir(&kept).unwrap();
    let path = kept.join("audit");
    let (proxy, _host, _client) = start(&[
        ("TIDEGATE_AUDIT_FILE", path.to_str().unwrap()),
        ("TIDEGATE_ADMIN_ADDRESS", "127.0.0.1:0"),
    ])
    .await;
    let mut admin = Client::connect(&proxy.admin().await).await.unwrap();
    let looks = ["hot", "warnings", "flow", "waiting", "about"];
    for look in looks.iter().chain(&["record"]) {
        assert_eq!(look_at(&mut admin, look).await.status, 200, "{look}");
    }
    // The outcome is not waited for.
    let of_recordings = || {
        let all = lines(&path).into_iter();
        all.filter(|[_, what, _]| what == "GET /admin/record").collect::<Vec<_>>()
    };
    let written = async {
        while of_recordings().len() < 2 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, written).await.unwrap();
    let found = of_recordings();
    assert!(found.iter().all(|[who, ..]| who.ends_with("with the administrator's token")));
    assert_eq!([&found[0][2], &found[1][2]], ["begun", "done"]);
    let all = lines(&path);
    for look in looks {
        let what = format!("GET /admin/{look}");
        assert!(!all.iter().any(|line| line[1] == what), "{look}: {all:?}");
    }

    std::fs::remove_dir_all(&kept).unwrap();
    let refused = look_at(&mut admin, "record").await;
    assert_eq!(refused.status, 503);
    assert!(String::from_utf8_lossy(&refused.body).contains("TIDEGATE_AUDIT_FILE"));
    assert_eq!(look_at(&mut admin, "about").await.status, 200);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_ends_the_start() {
    let path = "/nowhere/at/all/audit";
    let settings = [("PROXY_DATABASE_TYPE", "memory"), ("TIDEGATE_AUDIT_FILE", path)];
    let (code, said) = Proxy::refused(&settings).await;
    assert_eq!(code, Some(73), "{said}");
    assert!(said.contains("TIDEGATE_AUDIT_FILE") && said.contains(path), "{said}");
}

#[test]
fn a_request_whose_line_cannot_be_written_is_not_carried_out() {
    run_on_device("1m", "on_a_full_device");
}

#[tokio::test]
#[ignore = "fills its device"]
async fn on_a_full_device() {
    let here = std::env::current_dir().unwrap();
    let (path, filler, policies) = (here.join("audit"), here.join("filler"), here.join("policies"));
    refuse_moe(&policies);
    let (_proxy, _host, mut client) = start(&[
        ("TIDEGATE_AUDIT_FILE", path.to_str().unwrap()),
        ("TIDEGATE_POLICIES_DIR", policies.to_str().unwrap()),
    ])
    .await;
    assert_eq!(ask(&mut client, "POST", "joe/checkpoint", Some(TOKEN)).await.status, 200);
    let mut rest = std::fs::File::create(&filler).unwrap();
    let copied = std::io::copy(&mut std::io::repeat(0), &mut rest);
    assert!(copied.is_err(), "the device is full");
    // What is left of the page of the last line may take some more.
    let mut refused = 0;
    for _ in 0..100 {
        let reply = ask(&mut client, "DELETE", "joe", Some("wrong")).await;
        if reply.status == 503 {
            assert_eq!(reply.headers["tidegate-error-source"], "proxy");
            assert!(String::from_utf8_lossy(&reply.body).contains("TIDEGATE_AUDIT_FILE"));
            refused += 1;
        } else {
            assert_eq!((reply.status, refused), (403, 0));
        }
    }
    assert!(refused > 0);
    let reply = ask(&mut client, "DELETE", "joe", Some(TOKEN)).await;
    assert_eq!(reply.status, 503);
    assert_eq!(client.invoke(&call("joe", ADD)).await.unwrap().0, 200, "calls go on");
    // An action may have run before a policy refuses: its client is not told to try again.
    assert_eq!(client.invoke(&call("moe", ADD)).await.unwrap().0, 403);
    let metrics = client.get("/metrics").await.unwrap();
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(metrics.contains("\ntidegate_audit_lines_dropped_total 1\n"), "{metrics}");
    drop(rest);
    std::fs::remove_file(&filler).unwrap();
    let history = ask(&mut client, "GET", "joe/revisions", Some(TOKEN)).await;
    assert_eq!(history.status, 200);
    let history: Value = serde_json::from_slice(&history.body).unwrap();
    assert_eq!(history["revisions"].as_array().unwrap().len(), 1, "it was not deleted");
    let text = std::fs::read_to_string(&path).unwrap();
    let last = text.lines().last().unwrap();
    assert!(serde_json::from_str::<Value>(last).is_ok(), "a torn line is ended: {last}");
}
