//! Web pages in a browser of this machine: they reach the proxy, and may do nothing unless the settings know them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use prost::Message;
use support::client::{Client, Reply};
use support::counter::{ADD, Counter, SYSTEM, call, definition, get, register, registration};
use support::host::Host;
use support::proto::{Kind, SpawnRequest};
use support::proxy::Proxy;

const TOKEN: &str = "open sesame";
const PAGE: &str = "https://console.example";

/// A proxy with an actor `joe` that was called once.
async fn start(settings: &[(&str, &str)]) -> (Proxy, Host, Client) {
    let host = Host::start(Arc::new(Counter::default()));
    let port = host.port();
    let own = [("PROXY_DATABASE_TYPE", "memory"), ("USER_FUNCTION_PORT", port.as_str())];
    let proxy = Proxy::start(&[&own[..], settings].concat()).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    assert_eq!(client.invoke(&call("joe", ADD)).await.unwrap().0, 200);
    (proxy, host, client)
}

/// Everything that changes something, with the administrator's token.
fn changes() -> Vec<Request<Full<Bytes>>> {
    let actors = format!("/api/v1/system/{SYSTEM}/actors");
    let request = |method: &str, path: &str, body: Vec<u8>| {
        let path = format!("{actors}{path}");
        Request::builder().method(method).uri(path).body(Full::from(body)).unwrap()
    };
    let mut all = vec![
        request("POST", "/joe/invoke", call("joe", ADD).encode_to_vec()),
        request("POST", "/spawn", SpawnRequest::default().encode_to_vec()),
        registration(None, Vec::new()),
        request("POST", "/joe/checkpoint", Vec::new()),
        request("POST", "/joe/restore?revision=1", Vec::new()),
        request("DELETE", "/joe", Vec::new()),
    ];
    for request in &mut all {
        let headers = request.headers_mut();
        headers.insert("host", "localhost".parse().unwrap());
        headers.insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    }
    all
}

async fn send(
    client: &mut Client,
    mut request: Request<Full<Bytes>>,
    name: &'static str,
    value: &str,
) -> Reply {
    request.headers_mut().insert(name, value.parse().unwrap());
    client.send(request).await.unwrap()
}

fn is_refused(reply: &Reply, setting: &str) {
    let text = String::from_utf8_lossy(&reply.body);
    assert_eq!(reply.status, 403, "{text}");
    assert_eq!(reply.headers["tidegate-error-source"], "policy");
    assert!(text.contains(setting), "{setting} in {text}");
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing_whether_there_is_a_token_or_not() {
    for settings in [&[][..], &[("TIDEGATE_ADMIN_TOKEN", TOKEN)], &[("TIDEGATE_ORIGINS", PAGE)]] {
        let (_proxy, _host, mut client) = start(settings).await;
        for origin in ["http://evil", "null", "http://localhost:9001", "https://console.example:1"]
        {
            for request in changes() {
                let reply = send(&mut client, request, "origin", origin).await;
                is_refused(&reply, "TIDEGATE_ORIGINS");
                assert!(!reply.headers.contains_key("access-control-allow-origin"));
            }
        }
        assert_eq!(get(&mut client, "joe").await, 1, "nothing has happened");
    }
}

#[tokio::test]
async fn a_page_of_a_known_origin_may_do_what_its_client_may() {
    let settings = [("TIDEGATE_ORIGINS", PAGE), ("TIDEGATE_ADMIN_TOKEN", TOKEN)];
    let (_proxy, _host, mut client) = start(&settings).await;
    for request in changes() {
        let path = request.uri().to_string();
        let reply = send(&mut client, request, "origin", PAGE).await;
        assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
        assert_eq!(reply.headers["access-control-allow-origin"], PAGE);
        assert_eq!(reply.headers["vary"], "origin");
    }
}

#[tokio::test]
async fn a_browser_that_asks_beforehand_is_told_of_known_origins_only() {
    let (_proxy, _host, mut client) = start(&[("TIDEGATE_ORIGINS", PAGE)]).await;
    for (origin, status, methods) in
        [(PAGE, 204, Some("GET, HEAD, DELETE")), ("http://evil", 405, None)]
    {
        let request = Request::options(format!("/api/v1/system/{SYSTEM}/actors/joe"))
            .header("host", "localhost")
            .header("access-control-request-method", "DELETE");
        let request = request.body(Full::default()).unwrap();
        let reply = send(&mut client, request, "origin", origin).await;
        assert_eq!(reply.status, status);
        let header = |name: &str| reply.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("access-control-allow-methods"), methods);
        assert_eq!(header("access-control-allow-origin"), methods.map(|_| PAGE));
    }
}

#[tokio::test]
async fn a_page_of_a_known_origin_may_use_the_admin_port_with_the_token_of_its_user() {
    let settings = [
        ("TIDEGATE_ORIGINS", PAGE),
        ("TIDEGATE_ADMIN_TOKEN", TOKEN),
        ("TIDEGATE_ADMIN_ADDRESS", "127.0.0.1:0"),
    ];
    let (proxy, _host, _client) = start(&settings).await;
    let mut admin = Client::connect(&proxy.admin().await).await.unwrap();
    let request = |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.header("access-control-request-method", "GET");
        request.body(Full::<Bytes>::default()).unwrap()
    };
    let both = [("/api/v1/actors", "GET, HEAD"), ("/admin/flow", "GET, HEAD")];
    let changes = [("/admin/log-level", "GET, HEAD, PUT"), ("/api/v1/actors/pause", "POST")];
    for (path, methods) in both.into_iter().chain(changes) {
        let asked = send(&mut admin, request("OPTIONS", path), "origin", PAGE).await;
        assert_eq!(asked.status, 204, "{path}");
        assert_eq!(asked.headers["access-control-allow-methods"], methods, "{path}");
        assert_eq!(asked.headers["access-control-allow-origin"], PAGE, "{path}");
        let foreign = send(&mut admin, request("OPTIONS", path), "origin", "http://evil").await;
        assert_eq!(foreign.status, 403, "{path}");
        assert!(!foreign.headers.contains_key("access-control-allow-origin"), "{path}");
    }
    for (path, _) in both {
        let read = send(&mut admin, request("GET", path), "origin", PAGE).await;
        assert_eq!(read.status, 403, "{path}: without the token");
        assert_eq!(read.headers["access-control-allow-origin"], PAGE, "{path}: why can be read");
        let mut with_token = request("GET", path);
        let token = format!("Bearer {TOKEN}").parse().unwrap();
        with_token.headers_mut().insert("authorization", token);
        let read = send(&mut admin, with_token, "origin", PAGE).await;
        assert_eq!(read.status, 200, "{path}: {}", String::from_utf8_lossy(&read.body));
        let origins: Vec<_> = read.headers.get_all("access-control-allow-origin").iter().collect();
        assert_eq!(origins, [PAGE], "{path}");
    }
}

#[tokio::test]
async fn a_page_whose_name_stands_for_this_machine_reads_nothing() {
    let settings = [("TIDEGATE_HOST_NAMES", "proxy.internal")];
    let (_proxy, _host, mut client) = start(&settings).await;
    let state = format!("/api/v1/system/{SYSTEM}/actors/joe");
    let read = |path: &str| Request::get(path).body(Full::default()).unwrap();
    for name in ["evil.example:9001", "evil.example", "localhost.evil.example:9001"] {
        for path in [state.clone(), format!("{state}/revisions")] {
            is_refused(&send(&mut client, read(&path), "host", name).await, "TIDEGATE_HOST_NAMES");
        }
        for request in changes() {
            is_refused(&send(&mut client, request, "host", name).await, "TIDEGATE_HOST_NAMES");
        }
        // Probes may call it whatever they like.
        assert_eq!(send(&mut client, read("/health"), "host", name).await.status, 200);
    }
    for name in ["localhost:9001", "127.0.0.1", "0.0.0.0:9001", "[::1]:9001", "Proxy.Internal:80"] {
        assert_eq!(send(&mut client, read(&state), "host", name).await.status, 200, "{name}");
    }
    assert_eq!(get(&mut client, "joe").await, 1, "nothing has happened");
}

#[tokio::test]
async fn over_http_2_the_name_is_in_the_address() {
    let (proxy, _host, _client) = start(&[]).await;
    let stream = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    let (executor, io) =
        (hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(stream));
    let (mut sender, driving) =
        hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(executor, io).await.unwrap();
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(driving);
    for (name, status) in [("evil.example:9001", 403), ("localhost:9001", 200)] {
        let address = format!("http://{name}/api/v1/system/{SYSTEM}/actors/joe");
        let request = Request::get(address).body(Full::default()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), status, "{name}");
    }
}
