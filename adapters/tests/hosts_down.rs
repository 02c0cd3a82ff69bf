//! A host that was reached and refuses connections: calls wait for it for a while, then its breaker opens.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use support::client::{Client, Reply};
use support::counter::{ADD, Added, Counter, add, call, definition, get, register};
use support::host::{BoundHost, Host};
use support::proto::{InvocationResponse, Kind};
use support::proxy::Proxy;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_mins(1);
const ENDS: Duration = Duration::from_secs(40);
/// Longer than a client of these tests waits: a call that waits for its deadline is seen.
const LONG: (&str, &str) = ("TIDEGATE_START_TIMEOUT", "120s");

/// Actors of the host.
const ACTORS: [&str; 8] = ["joe", "a", "b", "c", "d", "e", "f", "g"];

async fn proxy(port: &str, settings: &[(&str, &str)]) -> (Proxy, Client) {
    let mut all = vec![
        ("PROXY_DATABASE_TYPE", "memory"),
        ("USER_FUNCTION_HOST", "127.0.0.1"),
        ("USER_FUNCTION_PORT", port),
        ("TIDEGATE_DRAIN_DELAY", "0"),
    ];
    all.extend_from_slice(settings);
    let proxy = Proxy::start(&all).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register_all(&mut client).await;
    (proxy, client)
}

async fn register_all(client: &mut Client) {
    let definitions = ACTORS.map(|name| definition(name, Kind::Named));
    register(client, definitions.into()).await;
}

/// A proxy whose host has served one call of `joe`.
async fn start(settings: &[(&str, &str)]) -> (Host, Proxy, Client) {
    let host = Host::start_on(0, Arc::new(Counter::default())).await;
    let (proxy, mut client) = proxy(&host.port(), settings).await;
    assert!(matches!(add(&mut client, "joe").await.unwrap(), Added::To(1)));
    (host, proxy, client)
}

async fn invoke(address: String, actor: &'static str) -> Reply {
    let mut client = Client::connect(&address).await.unwrap();
    let body = call(actor, ADD).encode_to_vec();
    client.post("/api/v1/system/s/actors/a/invoke", body.into()).await.unwrap()
}

fn invoke_all(proxy: &Proxy) -> JoinSet<Reply> {
    ACTORS.into_iter().map(|actor| invoke(proxy.address().to_owned(), actor)).collect()
}

/// The breaker's refusal.
fn assert_refused(reply: &Reply) {
    let status = reply.decode::<InvocationResponse>().status.unwrap();
    assert_eq!(reply.status, 502, "{}", status.message);
    for part in ["not started", "safe to retry", "USER_FUNCTION_PORT"] {
        assert!(status.message.contains(part), "{}", status.message);
    }
    assert_eq!(reply.headers["retry-after"], "1");
}

async fn accept_one(client: &mut Client, actor: &str) {
    let mut call = call(actor, ADD);
    call.r#async = true;
    assert_eq!(client.invoke(&call).await.unwrap().0, 200);
}

async fn wait_for_value(client: &mut Client, actor: &str, value: u32) {
    let reached = async {
        while get(client, actor).await != value {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, reached).await.unwrap();
}

async fn wait_for_metric(client: &mut Client, line: &str) {
    let seen = async {
        loop {
            let told = client.get("/metrics").await.unwrap();
            if String::from_utf8_lossy(&told.body).lines().any(|told| told == line) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, seen).await.unwrap_or_else(|_| panic!("no {line}"));
}

/// How many lines of the log have this text.
fn lines(log: &[String], text: &str) -> usize {
    log.iter().filter(|line| line.contains(text)).count()
}

const AWAY: &str = "accepts no connections";
const BACK: &str = "accepts connections again";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_wait_for_a_host_that_comes_back_within_its_grace() {
    let (host, proxy, mut client) = start(&[LONG, ("TIDEGATE_HOST_GRACE", "60s")]).await;
    let port = host.stop().await;
    let waiting = invoke_all(&proxy);
    wait_for_metric(&mut client, "tidegate_hosts_away 1").await;
    sleep(Duration::from_secs(1)).await;
    let _host = Host::start_on(port, Arc::new(Counter::default())).await;
    for reply in timeout(LIMIT, waiting.join_all()).await.unwrap() {
        assert_eq!(reply.status, 200, "{:?}", reply.body);
    }
    wait_for_metric(&mut client, "tidegate_hosts_away 0").await;
    let log = proxy.said(ENDS).await;
    assert_eq!((lines(&log, AWAY), lines(&log, BACK)), (1, 1), "{log:#?}");
    assert!(log.iter().any(|line| line.contains(BACK) && line.contains(&port.to_string())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_grace_calls_fail_at_once_and_accepted_ones_are_delivered_later() {
    let (host, proxy, mut client) = start(&[LONG, ("TIDEGATE_HOST_GRACE", "1s")]).await;
    let port = host.stop().await;
    // One of each actor is tried, the other waits behind it: both are ended when the breaker opens.
    let (first, second) = (invoke_all(&proxy), invoke_all(&proxy));
    for reply in first.join_all().await.into_iter().chain(second.join_all().await) {
        assert_refused(&reply);
    }
    assert_refused(&invoke(proxy.address().to_owned(), "a").await);
    assert_eq!(get(&mut client, "joe").await, 1, "what needs no host is served");
    for _ in 0..10 {
        accept_one(&mut client, "joe").await;
        accept_one(&mut client, "a").await;
    }
    sleep(Duration::from_secs(1)).await;
    let _host = Host::start_on(port, Arc::new(Counter::default())).await;
    wait_for_value(&mut client, "joe", 11).await;
    wait_for_value(&mut client, "a", 10).await;
    assert_eq!(invoke(proxy.address().to_owned(), "b").await.status, 200);
    let log = proxy.said(ENDS).await;
    assert_eq!((lines(&log, AWAY), lines(&log, BACK)), (1, 1), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_calls_that_have_waited_too_long_are_lost_counted_and_logged() {
    const LOST: u32 = 50;
    let settings = [LONG, ("TIDEGATE_HOST_GRACE", "500ms"), ("TIDEGATE_ASYNC_PATIENCE", "2s")];
    let (host, proxy, mut client) = start(&settings).await;
    let port = host.stop().await;
    for _ in 0..LOST {
        accept_one(&mut client, "joe").await;
    }
    wait_for_metric(&mut client, &format!("tidegate_calls_lost_total {LOST}")).await;
    let _host = Host::start_on(port, Arc::new(Counter::default())).await;
    wait_for_metric(&mut client, "tidegate_hosts_away 0").await;
    assert!(matches!(add(&mut client, "joe").await.unwrap(), Added::To(2)), "none came later");
    let log = proxy.said(ENDS).await;
    let logged = lines(&log, "a call that nobody waits for has failed");
    assert!((1..LOST as usize / 2).contains(&logged), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_closes_the_breaker_and_the_host_is_waited_for_anew() {
    let (host, proxy, mut client) = start(&[LONG, ("TIDEGATE_HOST_GRACE", "0")]).await;
    let port = host.stop().await;
    for reply in invoke_all(&proxy).join_all().await {
        assert_refused(&reply);
    }
    register_all(&mut client).await;
    // A call waits again: the host may listen only after it has registered.
    let waiting = invoke_all(&proxy);
    sleep(Duration::from_secs(1)).await;
    let _host = Host::start_on(port, Arc::new(Counter::default())).await;
    for reply in timeout(LIMIT, waiting.join_all()).await.unwrap() {
        assert_eq!(reply.status, 200, "{:?}", reply.body);
    }
    let log = proxy.said(ENDS).await;
    assert_eq!((lines(&log, AWAY), lines(&log, "has registered again")), (1, 1), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_calls_wait_for_a_host_that_was_never_reached() {
    let host = BoundHost::bind();
    // Longer than the longest pause, a second, before a call is tried again.
    let (_proxy, mut client) = proxy(&host.port(), &[("TIDEGATE_START_TIMEOUT", "2s")]).await;
    for _ in 0..5 {
        accept_one(&mut client, "joe").await;
    }
    sleep(Duration::from_secs(4)).await;
    let _host = host.listen(Arc::new(Counter::default()));
    wait_for_value(&mut client, "joe", 5).await;
}
