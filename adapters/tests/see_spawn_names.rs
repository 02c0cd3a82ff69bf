//! Metrics of the built binary as Spawn has them: its names, off, or as lines of the log.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use support::client::Client;
use support::counter::{Added, Counter, add, call, definition, register};
use support::host::Host;
use support::proto::Kind;
use support::proxy::{Proxy, embedded};
use support::scrape::{Scrape, until};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_mins(1);

async fn start(host: &Host, directory: &tempfile::TempDir, more: &[(&str, &str)]) -> Proxy {
    let port = host.port();
    let proxy = Proxy::start(&[&embedded(directory.path(), &port)[..], more].concat()).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    proxy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_names_of_spawn_are_there_when_they_are_asked_for_and_few() {
    let (host, directory) =
        (Host::start(Arc::new(Counter::default())), tempfile::tempdir().unwrap());
    let proxy = start(&host, &directory, &[("TIDEGATE_SPAWN_METRICS", "true")]).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    for value in 1..=3 {
        assert!(
            matches!(add(&mut client, "joe").await.unwrap(), Added::To(found) if found == value)
        );
    }
    let labels = ["system=\"counting\"", "action=\"add\""];
    let stopped = |calls: f64| move |found: f64| (found - calls).abs() < 0.5;
    until(&proxy, "spawn_invoke_stop_duration", &labels, stopped(3.0)).await;
    until(&proxy, "spawn_invoke_stop_duration_seconds_count", &labels, stopped(3.0)).await;
    let scrape = Scrape::of(&proxy).await;
    let seconds = scrape.get("spawn_invoke_stop_duration_seconds_sum", &labels).unwrap();
    assert!(seconds > 0.0 && seconds < 60.0, "seconds, not microseconds: {seconds}");
    assert_eq!(scrape.get("vm_system_info_process_count", &[]), Some(1.0));
    assert!(scrape.get("vm_memory_total", &[]).unwrap() > 1e6);
    assert!(scrape.get("spawn_actor_memory", &[]).unwrap() >= 1024.0);
    for idle in ["spawn_actor_inflight_messages_messages", "spawn_actor_message_queue_len"] {
        assert_eq!(scrape.get(idle, &[]), Some(0.0), "{idle}");
    }
    for number in 0..600 {
        let strange = call("joe", &format!("strange{number}"));
        assert_eq!(client.invoke(&strange).await.unwrap().0, 404);
    }
    let scrape = Scrape::of(&proxy).await;
    let pairs = scrape.series().filter(|(name, _)| name.starts_with("spawn_invoke_stop_duration{"));
    assert_eq!(pairs.count(), 256);
    let other = scrape.get("spawn_invoke_stop_duration", &["action=\"other\""]);
    assert_eq!(other, Some(603.0 - 3.0 - 254.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_can_be_switched_off_or_logged() {
    let (host, directory) =
        (Host::start(Arc::new(Counter::default())), tempfile::tempdir().unwrap());
    let off = [
        ("SPAWN_DISABLE_METRICS", "true"),
        ("SPAWN_CONSOLE_METRICS", "true"),
        ("TIDEGATE_ADMIN_ADDRESS", "127.0.0.1:0"),
    ];
    let elsewhere = tempfile::tempdir().unwrap();
    let proxy = start(&host, &elsewhere, &off).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let mut admin = Client::connect(&proxy.admin().await).await.unwrap();
    for client in [&mut client, &mut admin] {
        assert_eq!(client.get("/metrics").await.unwrap().status, 404);
    }
    // The log and the flow have their figures all the same.
    let mut load = JoinSet::new();
    load.spawn(async move { while add(&mut client, "joe").await.is_ok() {} });
    let flows = async {
        loop {
            let reply = admin.get("/admin/flow").await.unwrap();
            let flow: Value = serde_json::from_slice(&reply.body).unwrap();
            if flow["calls"]["per_second"].as_f64() > Some(1.0) {
                return flow;
            }
        }
    };
    let flow = timeout(LIMIT, flows).await.expect("calls are counted");
    assert!(flow["stages"].as_array().is_some_and(|stages| !stages.is_empty()), "{flow:#}");
    let is_meant =
        |line: &String| line.contains("metrics of the last") && !line.contains("calls=0");
    let logged = async {
        while !proxy.log().iter().any(is_meant) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(LIMIT, logged).await.expect("a line of metrics");
    load.shutdown().await;
    proxy.kill().await;

    let logged = [("SPAWN_CONSOLE_METRICS", "true"), ("TIDEGATE_DRAIN_DELAY", "0")];
    let proxy = start(&host, &directory, &logged).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    assert!(matches!(add(&mut client, "joe").await.unwrap(), Added::To(1)));
    let scrape = Scrape::of(&proxy).await;
    assert!(!scrape.0.contains("spawn_"), "Spawn's names are not there unless they are asked for");
    // The first line comes with the start, the next ten seconds later.
    let is_meant = |line: &String| line.contains("metrics of the last") && line.contains("calls=1");
    let line = timeout(LIMIT, async {
        loop {
            if let Some(line) = proxy.log().into_iter().find(is_meant) {
                return line;
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    let line = line.await.expect("a line of metrics");
    for part in ["failed=0", "running=0", "waiting=0", "live_actors=1", "memory_mib="] {
        assert!(line.contains(part), "{line}");
    }
}
