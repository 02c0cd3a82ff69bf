//! `/admin/flow` and `/admin/waiting` of the built binary: what holds calls up is named, once and live, for hosts that are slow, and
//! for hosts that are away.
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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_mins(1);

async fn flow(client: &mut Client) -> Value {
    let reply = client.get("/admin/flow").await.unwrap();
    assert_eq!(reply.status, 200);
    serde_json::from_slice(&reply.body).unwrap()
}

/// Asks until what holds calls up is said so.
async fn said(client: &mut Client, is_right: impl Fn(&str) -> bool) -> Value {
    let mut last = Value::Null;
    let right = async {
        loop {
            last = flow(client).await;
            if is_right(last["bottleneck"]["sentence"].as_str().unwrap_or_default()) {
                return;
            }
        }
    };
    let is_said = timeout(PATIENCE, right).await.is_ok();
    assert!(is_said, "{last:#}");
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_calls_up_is_named_once_and_live() {
    let (open, seen) = watch::channel(true);
    let host = Host::start(Arc::new(Gate { counter: Arc::default(), open: seen }));
    let (port, directory) = (host.port(), tempfile::tempdir().unwrap());
    let settings = [
        ("TIDEGATE_ADMIN_ADDRESS", "127.0.0.1:0"),
        ("TIDEGATE_HOST_CONNECTIONS", "2"),
        ("TIDEGATE_START_TIMEOUT", "300s"),
        ("TIDEGATE_DRAIN_DELAY", "0"),
    ];
    let proxy = Proxy::start(&[&embedded(directory.path(), &port)[..], &settings].concat()).await;
    let address = proxy.admin().await;
    let mut admin = Client::connect(&address).await.unwrap();
    register(&mut admin, (0..6).map(|at| definition(&format!("a{at}"), Kind::Named)).collect())
        .await;
    assert!(matches!(add(&mut admin, "a0").await.unwrap(), Added::To(1)));
    let idle = said(&mut admin, str::is_empty).await;
    let caller = idle["stages"].as_array().unwrap().iter().find(|stage| stage["name"] == "caller");
    assert!(caller.unwrap()["buffer"]["limit_events"].as_f64().unwrap() > 1.0, "{idle:#}");

    open.send_replace(false);
    let mut callers = JoinSet::new();
    for at in 0..6 {
        let mut caller = Client::connect(proxy.address()).await.unwrap();
        callers.spawn(async move { caller.invoke(&call(&format!("a{at}"), ADD)).await });
    }
    let begins = format!("calls wait for host 127.0.0.1:{port}: 2 of 2 permits, ");
    let slow = said(&mut admin, |said| said.starts_with(&begins)).await;
    let permit = slow["waiting"].as_array().unwrap();
    let permit = permit.iter().find(|waiting| waiting["reason"] == "host_permit").unwrap();
    assert_eq!(permit["turns"], 4, "{slow:#}");
    let list = admin.get("/admin/waiting?reason=host_permit&limit=3").await.unwrap();
    let list: Value = serde_json::from_slice(&list.body).unwrap();
    assert_eq!((list["all"].as_u64(), list["actors"].as_array().unwrap().len()), (Some(4), 3));
    assert_eq!(list["actors"][0]["waiting"]["blocked_on"], "host_permit", "{list:#}");
    let none = admin.get("/admin/waiting?reason=host_permit&system=other").await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&none.body).unwrap()["all"], 0);

    // The stream has an event per second, and ends with the proxy.
    let mut live = TcpStream::connect(&address).await.unwrap();
    let request = format!("GET /admin/flow/live HTTP/1.1\r\nhost: {address}\r\n\r\n");
    live.write_all(request.as_bytes()).await.unwrap();
    let mut told = String::new();
    let events = async {
        let mut bytes = [0; 4_096];
        while told.matches("event: flow").count() < 3 {
            let read = live.read(&mut bytes).await.unwrap();
            assert!(read > 0, "{told}");
            told += &String::from_utf8_lossy(&bytes[..read]);
        }
    };
    timeout(PATIENCE, events).await.expect("an event per second");
    assert!(told.contains("text/event-stream") && told.contains(&begins), "{told}");

    open.send_replace(true);
    while let Some(answered) = callers.join_next().await {
        assert_eq!(answered.unwrap().unwrap().0, 200);
    }
    said(&mut admin, str::is_empty).await;

    // Its host goes away: calls wait for it to come back.
    host.stop().await;
    let mut caller = Client::connect(proxy.address()).await.unwrap();
    callers.spawn(async move { caller.invoke(&call("a1", ADD)).await });
    let away = said(&mut admin, |said| said.contains("has accepted no connection")).await;
    assert_eq!(away["bottleneck"]["host"], format!("127.0.0.1:{port}"), "{away:#}");
    callers.shutdown().await;
    let began = Instant::now();
    let status = proxy.terminate(PATIENCE).await;
    assert_eq!(status.code(), Some(0), "{status}");
    eprintln!("it ended within {:?}, with a stream open", began.elapsed());
    let rest = timeout(PATIENCE, live.read_to_string(&mut told)).await;
    rest.expect("the stream ends").unwrap();
}
