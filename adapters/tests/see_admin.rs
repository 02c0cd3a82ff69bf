//! The admin port of the built binary: who may use it, what is there, where it is opened.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::Value;
use support::client::{Client, Reply};
use support::counter::{Added, Counter, add, definition, register};
use support::host::Host;
use support::proto::Kind;
use support::proxy::{Proxy, embedded};

const PATIENCE: Duration = Duration::from_mins(1);
const ANY_PORT: (&str, &str) = ("TIDEGATE_ADMIN_ADDRESS", "127.0.0.1:0");
const TOKEN: (&str, &str) = ("TIDEGATE_ADMIN_TOKEN", "a-long-secret");

async fn ask(client: &mut Client, request: (&str, &str), headers: &[(&str, &str)]) -> Reply {
    let (method, path) = request;
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.send(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap()
}

fn json(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

#[tokio::test]
async fn everything_of_the_api_is_there_for_administrators_and_for_nobody_else() {
    let host = Host::start(Arc::new(Counter::default()));
    let (port, directory) = (host.port(), tempfile::tempdir().unwrap());
    let proxy = Proxy::start(&[&embedded(directory.path(), &port)[..], &[ANY_PORT]].concat()).await;
    let mut api = Client::connect(proxy.address()).await.unwrap();
    register(&mut api, vec![definition("joe", Kind::Named)]).await;
    assert!(matches!(add(&mut api, "joe").await.unwrap(), Added::To(1)));

    // The same protocol, so a client need not know which port it speaks to.
    let address = proxy.admin().await;
    let mut admin = Client::connect(&address).await.unwrap();
    register(&mut admin, vec![definition("ann", Kind::Named)]).await;
    assert!(matches!(add(&mut admin, "joe").await.unwrap(), Added::To(2)));
    let listed = json(&ask(&mut admin, ("GET", "/api/v1/actors?system=counting"), &[]).await);
    assert_eq!(listed["actors"].as_array().unwrap().len(), 2, "{listed}");
    let about = json(&ask(&mut admin, ("GET", "/admin/about"), &[]).await);
    assert_eq!((&about["phase"], &about["systems"][0]), (&"serving".into(), &"counting".into()));
    for path in ["/health", "/health/readiness", "/metrics"] {
        assert_eq!(ask(&mut admin, ("GET", path), &[]).await.status, 200, "{path}");
    }
    let described = json(&ask(&mut admin, ("GET", "/openapi.json"), &[]).await);
    assert!(described["paths"]["/admin/about"].is_object());
    assert!(described["paths"]["/api/v1/actors"].is_object());
    // What only the admin port has is not at the other one.
    assert_eq!(ask(&mut api, ("GET", "/admin/about"), &[]).await.status, 404);
    assert_eq!(ask(&mut admin, ("GET", "/admin/nothing"), &[]).await.status, 404);

    // A page of the admin port itself may change something, one of another origin may not.
    let own = format!("http://{address}");
    let (pause, name) = ("/api/v1/actors/pause?system=counting&name=ann", [("host", &*address)]);
    let foreign = [name[0], ("origin", "http://evil.example")];
    assert_eq!(ask(&mut admin, ("POST", pause), &foreign).await.status, 403);
    let rebound = [("host", "evil.example"), ("origin", "http://evil.example")];
    assert_eq!(ask(&mut admin, ("POST", pause), &rebound).await.status, 403);
    let same = ask(&mut admin, ("POST", pause), &[name[0], ("origin", &own)]).await;
    assert_eq!(json(&same)["changed"], 1);
    let status = proxy.terminate(PATIENCE).await;
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test]
async fn what_is_wrong_is_told_by_both_ports_with_who_failed_and_the_id_of_the_request() {
    let directory = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(&[&embedded(directory.path(), "1")[..], &[ANY_PORT]].concat()).await;
    let mut api = Client::connect(proxy.address()).await.unwrap();
    let mut admin = Client::connect(&proxy.admin().await).await.unwrap();
    while ask(&mut api, ("GET", "/health/readiness"), &[]).await.status != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (is_at_both, request, status, says) in [
        (true, ("POST", "/admin/hot"), 405, "use GET, HEAD"),
        (true, ("DELETE", "/openapi.json"), 405, "use GET, HEAD"),
        (true, ("GET", "/nothing"), 404, "no such path"),
        (true, ("GET", "/admin/hot?by=weight"), 400, "by in the query"),
        (true, ("GET", "/admin/warnings?x=1"), 400, "no parameter is"),
        (true, ("GET", "/api/v1/summary?x=1"), 400, "no parameter is"),
        (true, ("GET", "/api/v1/actors?kind=foo"), 400, "named, unnamed, pooled"),
        (true, ("POST", "/api/v1/actors/pause?kind=foo"), 400, "named, unnamed, pooled"),
        (true, ("GET", "/api/v1/actors?state=foo"), 400, "live or stored"),
        (false, ("POST", "/admin/flow"), 405, "use GET, HEAD"),
        (false, ("PUT", "/admin/record"), 405, "use GET, HEAD"),
        (false, ("POST", "/console"), 405, "use GET, HEAD"),
        (false, ("GET", "/console/nothing"), 404, "no such path"),
        (false, ("GET", "/admin/nothing"), 404, "no such path"),
        (false, ("GET", "/admin/flow?x=1"), 400, "no parameter is"),
        (false, ("GET", "/admin/flow/live?x=1"), 400, "no parameter is"),
        (false, ("GET", "/admin/about?x=1"), 400, "no parameter is"),
        (false, ("GET", "/admin/record?x=1"), 400, "no parameter is"),
        (false, ("GET", "/admin/waiting?reason=foo"), 400, "host_permit"),
    ] {
        let ports = [&mut admin, &mut api].into_iter().take(if is_at_both { 2 } else { 1 });
        for client in ports {
            let reply = ask(client, request, &[("x-request-id", "mine")]).await;
            let text = String::from_utf8_lossy(&reply.body);
            assert!(reply.status == status && text.contains(says), "{request:?}: {reply:?}");
            assert_eq!(reply.headers["tidegate-error-source"], "proxy", "{request:?}");
            assert_eq!(reply.headers["x-request-id"], "mine", "{request:?}");
            let unnamed = ask(client, request, &[]).await;
            assert_eq!(unnamed.headers["x-request-id"].len(), 16, "{request:?}");
            let allow = unnamed.headers.get("allow").map(|methods| methods.to_str().unwrap());
            assert_eq!(allow, (status == 405).then_some("GET, HEAD"), "{request:?}");
        }
    }
    let named = ask(&mut admin, ("GET", "/admin/about"), &[("x-request-id", "mine")]).await;
    assert_eq!((named.status, named.headers["x-request-id"].as_bytes()), (200, &b"mine"[..]));
    let plain = ask(&mut admin, ("GET", "/"), &[]).await;
    assert_eq!((plain.status, plain.headers.get("x-request-id")), (302, None));
    let alias = json(&ask(&mut admin, ("GET", "/admin/waiting?reason=turn"), &[]).await);
    assert_eq!(alias["all"], 0, "nothing waits: {alias}");
    let metrics = ask(&mut admin, ("GET", "/metrics"), &[]).await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    for counted in [
        r#"{route="admin",status="200"} 2"#,
        r#"{route="admin",status="405"} 4"#,
        r#"{route="hot",status="405"} 4"#,
        r#"{route="console",status="302"} 1"#,
        r#"{route="none",status="404"} 6"#,
    ] {
        let line = format!("tidegate_http_requests_total{counted}");
        assert!(metrics.lines().any(|other| other == line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn once_a_token_is_set_everything_needs_it_and_each_change_is_in_the_audit_once() {
    let (directory, audit) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = audit.path().join("audit");
    let settings = [ANY_PORT, TOKEN, ("TIDEGATE_AUDIT_FILE", file.to_str().unwrap())];
    let proxy = Proxy::start(&[&embedded(directory.path(), "1")[..], &settings].concat()).await;
    let mut admin = Client::connect(&proxy.admin().await).await.unwrap();
    let right = [("authorization", "Bearer a-long-secret")];
    for (request, refused) in [
        (("GET", "/admin/about"), true),
        (("GET", "/api/v1/system/s/actors/a"), true),
        (("GET", "/health"), false),
        (("GET", "/metrics"), false),
    ] {
        let status = ask(&mut admin, request, &[]).await.status;
        assert_eq!(status == 403, refused, "{request:?} {status}");
        let wrong = ask(&mut admin, request, &[("authorization", "Bearer other")]).await.status;
        assert_eq!(matches!(wrong, 401 | 403), refused, "{request:?} {wrong}");
    }
    let named = ask(&mut admin, ("GET", "/api/v1/actors"), &[("x-request-id", "mine")]).await;
    assert_eq!((named.status, named.headers["x-request-id"].as_bytes()), (403, &b"mine"[..]));
    assert_eq!(named.headers["tidegate-error-source"], "policy");
    assert_eq!(ask(&mut admin, ("GET", "/admin/about"), &right).await.status, 200);
    let changed = ask(&mut admin, ("POST", "/api/v1/actors/pause?all=true"), &right).await;
    assert_eq!(changed.status, 200);
    let lines = std::fs::read_to_string(&file).unwrap();
    let of = |what: &str| lines.lines().filter(|line| line.contains(what)).count();
    assert_eq!(of("/admin/about"), 2, "two were refused, and a look changes nothing: {lines}");
    assert_eq!(of("begun"), 1, "{lines}");
}

#[tokio::test]
async fn the_default_port_may_be_taken_and_one_that_is_set_may_not() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let embedded = embedded(directory.path(), "1");
    let with = |address| [&embedded[..], &[("TIDEGATE_ADMIN_ADDRESS", address)]].concat();
    let (code, said) = Proxy::refused(&with(&address)).await;
    assert!(code == Some(69) && said.contains("TIDEGATE_ADMIN_ADDRESS"), "{code:?} {said}");
    let (code, said) = Proxy::refused(&with("0.0.0.0:0")).await;
    assert!(code == Some(64) && said.contains("TIDEGATE_ADMIN_TOKEN"), "{code:?} {said}");
    // Empty means unset. Whoever has the default port, somebody else has it now.
    let _ours = TcpListener::bind("127.0.0.1:9002");
    let proxy = Proxy::start(&with("")).await;
    let said = proxy.said(PATIENCE).await;
    let warned = said.iter().find(|line| line.contains("no admin port"));
    assert!(warned.is_some_and(|line| line.contains("127.0.0.1:9002")), "{said:?}");
}
