//! A rate limit, and an admission without a free place, refuse a call before its body is sent (decision 39).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod raw;
mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::Request;
use prost::Message;
use raw::{HANG, read_response};
use support::client::Client;
use support::counter::{ADD, Gate, SYSTEM, call, definition, register};
use support::host::Host;
use support::proto::Kind;
use support::proxy::Proxy;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A proxy whose counting host answers when it is let to.
struct Scene {
    proxy: Proxy,
    client: Client,
    open: watch::Sender<bool>,
    _host: Host,
}

impl Scene {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let (open, seen) = watch::channel(true);
        let host = Host::start(Arc::new(Gate { counter: Arc::default(), open: seen }));
        let port = host.port();
        let mut all = vec![
            ("PROXY_DATABASE_TYPE", "memory"),
            ("USER_FUNCTION_HOST", "127.0.0.1"),
            ("USER_FUNCTION_PORT", &port),
            ("TIDEGATE_HTTP_BODY_TIMEOUT", "10m"),
        ];
        all.extend(settings);
        let proxy = Proxy::start(&all).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        let actors = (0..12).map(|at| definition(&format!("a{at}"), Kind::Named));
        register(&mut client, actors.collect()).await;
        Self { proxy, client, open, _host: host }
    }

    /// The status of a call, and of what the path names.
    async fn status(&mut self, actor: &str, of_path: &str, shown: Option<&str>) -> u16 {
        let mut request = Request::post(of_path).header("host", "localhost");
        if let Some(shown) = shown {
            request = request.header("authorization", shown);
        }
        let body = Full::new(call(actor, ADD).encode_to_vec().into());
        self.client.send(request.body(body).unwrap()).await.unwrap().status
    }

    async fn call(&mut self) -> u16 {
        self.status("a0", &invoke(SYSTEM, "a0"), None).await
    }

    /// Sends the head of a call with a body of 4 MB, and not one byte of the body. Returns all of the answer.
    fn announce(&self, path: &str, more: &str) -> String {
        let mut stream = TcpStream::connect(self.proxy.address()).unwrap();
        stream.set_read_timeout(Some(HANG)).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4000000\r\n{more}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        if more.contains("100-continue") {
            // The connection ends: all that comes is the answer.
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            return answer;
        }
        let answer = read_response(&mut stream, false).unwrap();
        answer.head.clone() + &answer.text()
    }

    fn is_refused(&self, path: &str, more: &str, status: u16, says: &str) {
        for asking in ["", "expect: 100-continue\r\n"] {
            let answer = self.announce(path, &format!("{more}{asking}"));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.contains("retry-after: ") && answer.contains(says), "{answer}");
        }
    }

    async fn refused_for(&mut self, reason: &str) -> String {
        let told = self.client.get("/metrics").await.unwrap();
        let told = String::from_utf8(told.body.to_vec()).unwrap();
        let start = format!("tidegate_calls_refused_total{{reason={reason:?}}} ");
        let line = told.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or("none").to_owned()
    }
}

fn invoke(system: &str, actor: &str) -> String {
    format!("/api/v1/system/{system}/actors/{actor}/invoke")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_beyond_the_rate_of_its_address_is_refused_by_its_head_and_each_call_counts_once()
{
    let mut scene = Scene::start(&[("TIDEGATE_RATE_LIMIT_PEER", "1/m:4")]).await;
    for _ in 0..3 {
        assert_eq!(scene.call().await, 200);
    }
    assert_eq!(scene.status("a0", "/api/v1/system/x/actors/y/invoke", None).await, 200);
    scene.is_refused(&invoke(SYSTEM, "a0"), "", 429, "TIDEGATE_RATE_LIMIT_PEER");
    assert_eq!(scene.call().await, 429);
    assert_eq!(scene.refused_for("rate_limit").await, "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_beyond_the_rate_of_its_client_is_refused_by_its_head_and_another_client_is_served()
 {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    let user = |name: &str| format!("{name}:{}\n", bcrypt::hash("one", 4).unwrap());
    fs::write(&users, user("alice") + &user("bob")).unwrap();
    let settings =
        [("TIDEGATE_RATE_LIMIT_IDENTITY", "1/m:2"), ("TIDEGATE_USERS", users.to_str().unwrap())];
    let mut scene = Scene::start(&settings).await;
    let path = invoke(SYSTEM, "a0");
    let [alice, bob] =
        ["alice", "bob"].map(|name| format!("Basic {}", STANDARD.encode(format!("{name}:one"))));
    for _ in 0..2 {
        assert_eq!(scene.status("a0", &path, Some(&alice)).await, 200);
    }
    let shown = format!("authorization: {alice}\r\n");
    scene.is_refused(&path, &shown, 429, "TIDEGATE_RATE_LIMIT_IDENTITY");
    assert_eq!(scene.status("a0", &path, Some(&bob)).await, 200);
    assert_eq!(scene.status("a0", &path, Some(&bob)).await, 200);
    assert_eq!(scene.status("a0", &path, Some(&bob)).await, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_beyond_the_rate_of_its_system_is_refused_by_its_head_and_each_call_counts_once()
{
    let mut scene = Scene::start(&[("TIDEGATE_RATE_LIMIT_SYSTEM", "1/m:3")]).await;
    for _ in 0..2 {
        assert_eq!(scene.call().await, 200);
    }
    assert_eq!(
        scene.status("nobody", &invoke(SYSTEM, "nobody"), None).await,
        404,
        "counts nothing"
    );
    // A head alone uses nothing up.
    for _ in 0..5 {
        let mut stream = TcpStream::connect(scene.proxy.address()).unwrap();
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nabc",
            invoke(SYSTEM, "a0")
        );
        stream.write_all(head.as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream, false).unwrap().status, 400);
    }
    assert_eq!(scene.call().await, 200);
    scene.is_refused(&invoke(SYSTEM, "a0"), "", 429, "TIDEGATE_RATE_LIMIT_SYSTEM");
    // Its path says otherwise, what it is counts.
    let elsewhere = invoke("elsewhere", "a0");
    assert_eq!(scene.status("a0", &elsewhere, None).await, 429);
    assert_eq!(scene.refused_for("rate_limit").await, "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_for_which_there_is_no_free_place_is_refused_by_its_head() {
    let settings = [
        ("TIDEGATE_ADMISSION_EVENTS", "8"),
        ("ACTORS_GLOBAL_BACKPRESSURE_MAX_DEMAND", "1"),
        ("TIDEGATE_START_TIMEOUT", "60s"),
    ];
    let scene = Scene::start(&settings).await;
    scene.open.send_replace(false);
    let mut calls = JoinSet::new();
    for at in 0..12 {
        let mut client = Client::connect(scene.proxy.address()).await.unwrap();
        calls.spawn(async move {
            let (name, path) = (format!("a{at}"), invoke(SYSTEM, &format!("a{at}")));
            client.post(&path, call(&name, ADD).encode_to_vec().into()).await.unwrap().status
        });
    }
    // One is at the host, eight wait.
    for _ in 0..3 {
        assert_eq!(calls.join_next().await.unwrap().unwrap(), 503);
    }
    scene.is_refused(&invoke(SYSTEM, "a0"), "", 503, "no free place");
    scene.open.send_replace(true);
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
}
