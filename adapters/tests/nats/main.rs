//! The built binary on a real NATS server: calls between actor systems, and broadcasts between proxies of one.
//!
//! `./test nats` builds the server and says where it is. Each test starts servers of its own with `tools/nats-up`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod channels;
mod secure;
mod server;
mod systems;

use std::future::Future;
use std::time::Duration;

use serde_json::{Value, json};
use support::client::{Client, Reply};
use support::json::send;
use support::proxy::Proxy;
use support::scrape::count;
use tokio::time::{sleep, timeout};

/// How long something that has to happen may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A proxy on this NATS, with a client of it.
struct Caller {
    proxy: Proxy,
    client: Client,
}

impl Caller {
    async fn start(servers: &str, more: &[(&str, &str)]) -> Self {
        let settings = [
            ("PROXY_DATABASE_TYPE", "memory"),
            ("TIDEGATE_DRAIN_DELAY", "0"),
            ("SPAWN_USE_INTERNAL_NATS", "true"),
            ("SPAWN_INTERNAL_NATS_HOSTS", servers),
        ];
        let proxy = Proxy::start(&[&settings, more].concat()).await;
        let client = Client::connect(proxy.address()).await.unwrap();
        Self { proxy, client }
    }

    /// The same, connected.
    async fn connected(servers: &str, more: &[(&str, &str)]) -> Self {
        let mut caller = Self::start(servers, more).await;
        caller.until_connected(true).await;
        caller
    }

    async fn until_connected(&mut self, is: bool) {
        until("the proxy knows its connection", async || {
            count(&self.proxy, "tidegate_nats_connected").await == u64::from(is)
        })
        .await;
    }

    /// Calls an actor in JSON.
    async fn call(&mut self, system: &str, actor: &str, call: Value) -> (Reply, Value) {
        let path = format!("/api/v1/system/{system}/actors/{actor}/invoke");
        send(&mut self.client, ("POST", &path), &[], &call.to_string()).await
    }
}

/// Waits until something is so.
async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// Within the limit of a test.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(LIMIT, what).await.expect("in time")
}

/// A call of `add`.
fn add() -> Value {
    json!({ "action": "add" })
}
