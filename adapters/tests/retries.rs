//! A host that refuses connections and comes back: it is tried within its budget, and no call is lost.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::client::Client;
use support::counter::{ADD, Counter, call, definition, register};
use support::host::BoundHost;
use support::proto::Kind;
use support::proxy::Proxy;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Calls that wait for the host, each of an actor of its own.
const CALLS: usize = 100;
const PER_SECOND: usize = 5;

/// How often hosts were called, answered or not.
async fn attempts(client: &mut Client) -> usize {
    let metrics = client.get("/metrics").await.unwrap();
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    let count =
        |line: &str| line.strip_prefix("tidegate_invoke_duration_seconds_count ")?.parse().ok();
    text.lines().find_map(count).unwrap()
}

async fn add(address: String, actor: String) -> u16 {
    let mut client = Client::connect(&address).await.unwrap();
    client.invoke(&call(&actor, ADD)).await.unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_refuses_is_tried_within_its_budget_and_then_serves_all() {
    let host = BoundHost::bind();
    let (port, per_second) = (host.port(), PER_SECOND.to_string());
    let proxy = Proxy::start(&[
        ("PROXY_DATABASE_TYPE", "memory"),
        ("USER_FUNCTION_HOST", "127.0.0.1"),
        ("USER_FUNCTION_PORT", &port),
        ("TIDEGATE_START_TIMEOUT", "25s"),
        ("TIDEGATE_RETRY_PERCENT", "0"),
        ("TIDEGATE_RETRY_PER_SECOND", &per_second),
    ])
    .await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let names: Vec<_> = (0..CALLS).map(|number| format!("a{number}")).collect();
    register(&mut client, names.iter().map(|name| definition(name, Kind::Named)).collect()).await;
    let began = Instant::now();
    let calls: JoinSet<_> =
        names.into_iter().map(|name| add(proxy.address().to_owned(), name)).collect();
    sleep(Duration::from_secs(3)).await;
    let tried = attempts(&mut client).await;
    // The last second may have begun, and the retries of one are saved up.
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    assert!(tried <= CALLS + PER_SECOND * seconds, "{tried} attempts in {seconds} s");
    let _host = host.listen(Arc::new(Counter::default()));
    assert_eq!(calls.join_all().await, [200; CALLS]);
}
