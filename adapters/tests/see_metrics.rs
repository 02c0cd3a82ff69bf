//! Metrics of the built binary: well formed, described, and few, whatever the traffic is.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use support::client::Client;
use support::counter::{ADD, Added, Counter, SYSTEM, add, call, definition, register, spawn};
use support::host::Host;
use support::proto::Kind;
use support::proxy::{Proxy, embedded};
use support::scrape::Scrape;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// What a fresh proxy has not counted yet, with a label.
const RARE: [(&str, &str); 8] = [
    ("tidegate_timer_ticks_total", "outcome=\"host_away\""),
    ("tidegate_http_connections_closed_total", "reason=\"head\""),
    ("tidegate_http_connections_refused_total", "reason=\"peer\""),
    ("tidegate_credentials_refused_total", "means=\"token\""),
    ("tidegate_tls_handshakes_failed_total", "reason=\"late\""),
    ("tidegate_audit_lines_dropped_total", ""),
    ("tidegate_nats_messages_dropped_total", ""),
    ("tidegate_trace_spans_dropped_total", ""),
];

async fn start(host: &Host, directory: &std::path::Path, more: &[(&str, &str)]) -> (Proxy, Client) {
    let port = host.port();
    let settings = [&embedded(directory, &port)[..], more].concat();
    let proxy = Proxy::start(&settings).await;
    let client = Client::connect(proxy.address()).await.unwrap();
    (proxy, client)
}

/// What `promtool check metrics` says of a scrape; nothing when all is well.
async fn promtool(scrape: &Scrape) -> String {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("./test see installs promtool");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(scrape.0.as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    format!(
        "{}{}",
        if output.status.success() { "" } else { "failed: " },
        String::from_utf8_lossy(&said)
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_finds_nothing_wrong_and_every_metric_is_described() {
    let host = Host::start(Arc::new(Counter::default()));
    let directory = tempfile::tempdir().unwrap();
    let (proxy, mut client) = start(&host, directory.path(), &[]).await;
    let first = Scrape::of(&proxy).await;
    for (name, label) in RARE {
        assert_eq!(first.get(name, &[label]), Some(0.0), "{name} is there before it counts");
    }
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    assert!(matches!(add(&mut client, "joe").await.unwrap(), Added::To(1)));
    assert_eq!(client.invoke(&call("nobody", ADD)).await.unwrap().0, 404);
    let scrape = Scrape::of(&proxy).await;
    assert_eq!(promtool(&scrape).await, "");
    let of_kind = |kind: &str| -> BTreeSet<&str> {
        let lines = scrape.0.lines().filter_map(|line| line.strip_prefix(kind));
        lines.map(|rest| rest.split(' ').next().unwrap()).collect()
    };
    let (typed, described) = (of_kind("# TYPE "), of_kind("# HELP "));
    assert_eq!(typed, described);
    let page = include_str!("../../docs/metrics.md");
    for name in typed {
        assert!(page.contains(&format!("| `{name}` |")), "{name} is not in docs/metrics.md");
    }
    // Of the process, Prometheus' own names.
    for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
        assert!(scrape.get(name, &[]).unwrap() > 0.0, "{name}");
    }
    let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"");
    assert_eq!(scrape.get("tidegate_build_info", &[version]), Some(1.0));
}

/// How many series each metric has.
fn cardinality(scrape: &Scrape) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (series, _) in scrape.series() {
        let name = series.split('{').next().unwrap_or(series);
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}

const NAMES: u32 = 100_000;
/// So many a request may have.
const AT_ONCE: usize = 10_000;
/// Requests of each kind that name something new.
const EACH: u32 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_names_clients_choose_there_are_few_series() {
    let host = Host::start(Arc::new(Counter::default()));
    let directory = tempfile::tempdir().unwrap();
    let (proxy, mut client) = start(&host, directory.path(), &[]).await;
    register(&mut client, vec![definition("cats", Kind::Unnamed)]).await;
    let names: Vec<String> = (0..NAMES).map(|number| format!("strangecat{number}")).collect();
    for some in names.chunks(AT_ONCE) {
        spawn(&mut client, "cats", &some.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    // The kinds of answers that follow are there before the series are counted; a scrape is one of them.
    strange(&mut client, &names, 0..1).await;
    Scrape::of(&proxy).await;
    let before = cardinality(&Scrape::of(&proxy).await);
    strange(&mut client, &names, 1..EACH).await;
    let scrape = Scrape::of(&proxy).await;
    let after = cardinality(&scrape);
    println!("{} metrics, {} series", after.len(), after.values().sum::<usize>());
    assert_eq!(after, before, "no metric has more series");
    assert!(!scrape.0.contains("strange"), "no name of a client is a label");
    assert_eq!(scrape.get("tidegate_registered_actors", &[]), Some(f64::from(NAMES) + 1.0));
    assert!(scrape.get("tidegate_live_actors", &[]).unwrap() >= f64::from(EACH));
}

/// Requests that name new actors, actions, systems, topics and paths.
async fn strange(client: &mut Client, names: &[String], numbers: std::ops::Range<u32>) {
    for number in numbers {
        assert!(matches!(add(client, &names[number as usize]).await.unwrap(), Added::To(1)));
        let nobody = call(&format!("strange{number}"), ADD);
        assert_eq!(client.invoke(&nobody).await.unwrap().0, 404);
        let nothing = call(&names[number as usize], &format!("strangeaction{number}"));
        assert_eq!(client.invoke(&nothing).await.unwrap().0, 404);
        let mut elsewhere = call("joe", ADD);
        let system = format!("strangesystem{number}");
        elsewhere.system.as_mut().unwrap().name.clone_from(&system);
        elsewhere.actor.as_mut().unwrap().id.as_mut().unwrap().system = system;
        assert_eq!(client.invoke(&elsewhere).await.unwrap().0, 404);
        let path = format!("/strange{number}");
        assert_eq!(client.get(&path).await.unwrap().status, 404);
        let topic = format!("/api/v1/system/{SYSTEM}/channels/strange{number}");
        assert_eq!(client.post(&topic, Bytes::new()).await.unwrap().status, 200);
    }
}
