//! The built binary on a database: a schedule is killed with its proxy and counts each run once.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::server::{self, Keyspace};
use crate::support::client::Client;
use crate::support::counter::{Counter, definition, get, register};
use crate::support::host::Host;
use crate::support::proto::Kind;
use crate::support::proxy::Proxy;
use crate::support::schedules::{create, paused, runs, until_runs};

const ROUNDS: u64 = 5;
const END_LIMIT: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_on_a_database_goes_on_after_each_kill_and_each_run_counts_once() {
    let (keyspace, address) = (Keyspace::take().await, server::address());
    let host = Host::start(Arc::new(Counter::default()));
    let port = host.port();
    let mut settings = server::settings(&keyspace.name, &address);
    settings.extend([("USER_FUNCTION_HOST", "127.0.0.1"), ("USER_FUNCTION_PORT", &port)]);
    let mut proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    let all = json!({ "catch_up": "all", "overlap": "allow" });
    create(&mut client, "tick", "joe", all).await;
    for round in 1..=ROUNDS {
        let begun = runs(&mut client, "tick").await;
        until_runs(&mut client, "tick", begun + 2).await;
        // In the middle of whatever it does.
        sleep(Duration::from_millis(200 * round)).await;
        proxy.kill().await;
        proxy = Proxy::start(&settings).await;
        client = Client::connect(proxy.address()).await.unwrap();
    }
    let begun = runs(&mut client, "tick").await;
    until_runs(&mut client, "tick", begun + 2).await;
    let found = paused(&mut client, "tick").await;
    let none = json!(0);
    assert_eq!((&found["failed"], &found["missed"], &found["skipped"]), (&none, &none, &none));
    let count = get(&mut client, "joe").await;
    eprintln!("{ROUNDS} kills, {} runs, the actor is at {count}", found["runs"]);
    assert_eq!(found["runs"], json!(count), "{found}");
    assert!(u64::from(count) >= 2 * ROUNDS + 2, "{found}");
    let status = proxy.terminate(END_LIMIT).await;
    assert!(status.success(), "it ends with {status}");
    keyspace.give_back();
}
