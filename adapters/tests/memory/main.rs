//! The built binary under a memory limit of 256 MiB, with the embedded store: whatever its clients and hosts do, it lives, sheds
//! and serves a small call all along.
//!
//! Every test has a proxy and a control group of its own, and prints the most memory that the proxy had.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "figures for whoever reads the run")]

#[path = "../support/mod.rs"]
mod support;

mod group;
mod large;
mod unread;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use group::Group;
use large::{LARGE, Large, SMALL, call, large_actor};
use support::client::{Client, NoAnswer, Reply};
use support::counter::{SYSTEM, register};
use support::host::Host;
use support::proxy::{BINARY, Proxy, embedded};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::sleep;
use unread::Kind;

/// The memory limit.
const LIMIT_BYTES: u64 = 256 << 20;
/// Clients that never read.
const UNREAD: usize = 2_000;
/// How long a client may take nothing, here.
const WRITE_TIMEOUT: &str = "5s";
/// How long until answers that were never taken must be gone: their time, tenfold.
const FREED: Duration = Duration::from_secs(50);

/// A proxy in a control group, its host, and a caller of small calls.
struct Scene {
    proxy: Proxy,
    _host: Host,
    _directory: tempfile::TempDir,
    served: Arc<AtomicU32>,
    prober: JoinSet<()>,
    // Dropped last: its process must have ended.
    group: Group,
}

impl Scene {
    async fn new(name: &str) -> Self {
        let group = Group::new(name, LIMIT_BYTES);
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let host = Host::start(Arc::new(Large));
        let (mut command, port) = (Command::new("sh"), host.port());
        command.arg("-c").arg(group.runs(BINARY));
        let mut settings = embedded(directory.path(), &port);
        settings.extend([
            ("TIDEGATE_REVISIONS", "every"),
            ("TIDEGATE_HTTP_WRITE_TIMEOUT", WRITE_TIMEOUT),
        ]);
        let proxy = Proxy::spawn(command, &settings).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        let names = ["small", "history"].map(String::from);
        let many = (0..large::MANY).map(large::name);
        register(
            &mut client,
            names.into_iter().chain(many).map(|name| large_actor(&name)).collect(),
        )
        .await;
        let served = Arc::new(AtomicU32::new(0));
        let mut prober = JoinSet::new();
        prober.spawn(probe(client, served.clone()));
        Self { proxy, _host: host, _directory: directory, served, prober, group }
    }

    async fn client(&self) -> Client {
        Client::connect(self.proxy.address()).await.unwrap()
    }

    /// How many answers a route gave with a status.
    async fn answers(&self, route: &str, status: u16) -> u64 {
        let metrics = self.client().await.get("/metrics").await.unwrap();
        let text = String::from_utf8(metrics.body.to_vec()).unwrap();
        let of_route = format!("route=\"{route}\"");
        let of_status = format!("status=\"{status}\"");
        let lines = text.lines().filter(|line| {
            line.starts_with("tidegate_http_requests_total")
                && line.contains(&of_route)
                && line.contains(&of_status)
        });
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Small calls were served all along, and the process was neither killed nor ended.
    async fn end(mut self, what: &str) {
        let before = self.served.load(Ordering::Relaxed);
        assert!(before > 0, "no small call was served");
        sleep(Duration::from_millis(500)).await;
        assert!(self.served.load(Ordering::Relaxed) > before, "small calls are served no more");
        self.prober.abort_all();
        while let Some(probed) = self.prober.join_next().await {
            assert!(probed.is_err_and(|end| end.is_cancelled()), "a small call was not served");
        }
        let peak_kib = self.proxy.peak_kib();
        println!("{what}: at most {} MiB, {before} small calls served", peak_kib >> 10);
        assert_eq!(self.group.kills(), 0);
        self.proxy.kill().await;
    }
}

/// One small call after the other, each within its limit.
async fn probe(mut client: Client, served: Arc<AtomicU32>) {
    loop {
        let (status, answer) = client.invoke(&call("small", SMALL)).await.unwrap();
        assert_eq!(status, 200, "a small call is served: {answer:?}");
        served.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(20)).await;
    }
}

async fn histories_that_nobody_reads(kind: Kind, name: &str) {
    let scene = Scene::new(name).await;
    let mut client = scene.client().await;
    for _ in 0..5 {
        let (status, _) = client.invoke(&call("history", LARGE)).await.unwrap();
        assert_eq!(status, 200);
    }
    let path = format!("/api/v1/system/{SYSTEM}/actors/history/revisions");
    let mut unread = Vec::with_capacity(UNREAD);
    for _ in 0..UNREAD {
        unread.push(unread::ask(kind, scene.proxy.address(), &path).await.unwrap());
    }
    // Each waits, is sent, or is shed. Those that are sent end when their time is over, and then others are sent.
    let started = tokio::time::Instant::now();
    while scene.answers("revisions", 503).await == 0 {
        assert!(started.elapsed() < FREED, "nothing is shed");
        sleep(Duration::from_millis(100)).await;
    }
    // Whoever does read gets its history again once the others have had their time.
    loop {
        let Reply { status, body, .. } = client.get(&path).await.unwrap();
        if status == 200 {
            assert!(body.len() > 4 << 20, "a page of 4 MiB");
            break;
        }
        assert_eq!(status, 503);
        assert!(started.elapsed() < FREED, "what nobody took is not free again");
    }
    let (sent, shed) =
        (scene.answers("revisions", 200).await, scene.answers("revisions", 503).await);
    println!("{kind:?}: {sent} histories sent, {shed} shed");
    scene.end(&format!("{UNREAD} clients that do not read, {kind:?}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_over_http1_that_nobody_reads() {
    histories_that_nobody_reads(Kind::Http1, "http1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_over_http2_whose_window_is_closed() {
    histories_that_nobody_reads(Kind::Http2, "http2").await;
}

/// Calls each actor at once; how many got which status.
async fn call_all(scene: &Scene, calls: impl Iterator<Item = (String, &'static str)>) -> Vec<u16> {
    let mut calling = JoinSet::new();
    for (name, action) in calls {
        let address = scene.proxy.address().to_owned();
        calling.spawn(async move {
            let mut client = Client::connect(&address).await?;
            let (status, answer) = client.invoke(&call(&name, action)).await?;
            let text = answer.status.unwrap_or_default().message;
            // On a busy machine the host may be slow to go on.
            let is_shed = status == 503 || text.contains("no byte of its answer came");
            assert!(status == 200 || is_shed, "{status}: {text}");
            Ok(status)
        });
    }
    let statuses: Vec<Result<u16, NoAnswer>> = calling.join_all().await;
    statuses.into_iter().map(Result::unwrap).collect()
}

fn shed(statuses: &[u16]) -> usize {
    statuses.iter().filter(|status| **status != 200).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn states_of_4_mebibytes() {
    let scene = Scene::new("states").await;
    let statuses = call_all(&scene, (0..large::MANY).map(|n| (large::name(n), LARGE))).await;
    println!("{} of {} states of 4 MiB shed", shed(&statuses), large::MANY);
    assert!(shed(&statuses) < statuses.len(), "some are kept");
    scene.end("256 actors that answer 4 MiB states at once").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_answers_16_mebibytes() {
    let scene = Scene::new("host").await;
    let statuses = call_all(&scene, (0..64).map(|n| (large::name(n), large::HUGE))).await;
    println!("{} of 64 answers of 16 MiB shed", shed(&statuses));
    assert!(shed(&statuses) < statuses.len(), "some are sent");
    scene.end("64 answers of 16 MiB at once").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_registrations() {
    let scene = Scene::new("register").await;
    let mut storm = JoinSet::new();
    for _ in 0..16 {
        let mut client = scene.client().await;
        storm.spawn(async move {
            for _ in 0..10 {
                let actors = (0..1_000).map(|n| large_actor(&format!("storm-{n}"))).collect();
                register(&mut client, actors).await;
            }
        });
    }
    storm.join_all().await;
    scene.end("160 registrations of 1,000 actors each").await;
}
