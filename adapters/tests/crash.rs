//! Nothing that was acknowledged is lost: not when the process is killed, not when it is asked to end.

mod support;

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use support::client::Client;
use support::counter::{self, Added, Counter, Ledger, add, definition, get, register, spawn};
use support::host::Host;
use support::proto::Kind;
use support::proxy::{Proxy, embedded};

/// How often the process is killed.
const ROUNDS: u32 = 20;
/// How many actors are called at once, by one caller each.
const ACTORS: u32 = 40;
/// How many more callers the first actor has: its calls queue up, its commits follow each other closely.
const HOT_CALLERS: u32 = 7;
/// What must have happened before a kill counts.
const ACKNOWLEDGED: u32 = 100;
const IN_FLIGHT: u32 = 10;
/// How long the load may take to get there.
const LOAD_LIMIT: Duration = Duration::from_secs(30);

/// A counting host, a data directory, and callers with their memory.
struct Scene {
    host: Host,
    counter: Arc<Counter>,
    directory: TempDir,
    ledger: Arc<Ledger>,
    callers: Vec<String>,
}

impl Scene {
    fn new() -> Self {
        let counter = Arc::new(Counter { takes: Duration::from_millis(1), ..Counter::default() });
        let host = Host::start(Arc::clone(&counter));
        let directory = tempfile::tempdir().expect("a directory");
        let name = |number: u32| format!("a{number:02}");
        let callers = (0..ACTORS).map(name).chain((0..HOT_CALLERS).map(|_| name(0))).collect();
        Self { host, counter, directory, ledger: Arc::default(), callers }
    }

    /// Starts the proxy on the directory, with more settings.
    async fn start(&self, more: &[(&str, &str)]) -> Proxy {
        let port = self.host.port();
        let mut settings = embedded(self.directory.path(), &port);
        settings.extend(more);
        Proxy::start(&settings).await
    }

    /// Registers the actors, for good.
    async fn register(&self, proxy: &Proxy) {
        let mut client = Client::connect(proxy.address()).await.expect("the proxy is there");
        let mut names = self.callers.clone();
        names.dedup();
        names.truncate(ACTORS as usize);
        let definitions = names.iter().map(|name| definition(name, Kind::Named)).collect();
        register(&mut client, definitions).await;
    }

    /// Waits until enough was acknowledged since the count stood at `before`, and enough is in flight.
    async fn under_load(&self, before: u32) {
        let loaded = timeout(LOAD_LIMIT, async {
            while self.ledger.acknowledged() < before + ACKNOWLEDGED
                || self.ledger.in_flight() < IN_FLIGHT
            {
                sleep(Duration::from_millis(1)).await;
            }
        });
        loaded.await.expect("the load gets going");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_value_is_lost_when_the_process_is_killed() {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let scene = Scene::new();
    let mut proxy = scene.start(&[]).await;
    scene.register(&proxy).await;
    for round in 0..ROUNDS {
        let before = scene.ledger.acknowledged();
        let callers = scene.ledger.load(proxy.address(), &scene.callers);
        scene.under_load(before).await;
        sleep(Duration::from_millis(random.random_range(0..150))).await;
        scene.under_load(before).await;
        proxy.kill().await;
        let refusals: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
        assert!(refusals.is_empty(), "calls were refused with {refusals:?}");

        proxy = scene.start(&[]).await;
        scene.ledger.check(proxy.address(), round % 2 == 1).await;
    }
    eprintln!("{ROUNDS} rounds, {} acknowledged", scene.ledger.acknowledged());
}

/// Asks the process to end while it is under load, and looks whether everything is there afterwards.
async fn nothing_is_lost_by_an_orderly_end(durability: &str) {
    let settings = [("TIDEGATE_DURABILITY", durability), ("TIDEGATE_DRAIN_DELAY", "200")];
    let scene = Scene::new();
    let proxy = scene.start(&settings).await;
    scene.register(&proxy).await;
    let callers = scene.ledger.load(proxy.address(), &scene.callers);
    scene.under_load(0).await;
    let status = proxy.terminate(LOAD_LIMIT).await;
    assert_eq!(status.code(), Some(0), "it ends with {status}");
    let refusals: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    assert!(refusals.iter().all(|status| *status == 503), "calls were refused with {refusals:?}");

    let proxy = scene.start(&settings).await;
    scene.ledger.check(proxy.address(), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_ends_with_0_and_loses_nothing() {
    nothing_is_lost_by_an_orderly_end("acknowledged").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_nothing_with_snapshots_either() {
    nothing_is_lost_by_an_orderly_end("snapshot").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_definitions_and_spawned_ids() {
    let scene = Scene::new();
    let proxy = scene.start(&[]).await;
    let mut client = Client::connect(proxy.address()).await.expect("the proxy is there");
    let definitions = vec![definition("alone", Kind::Named), definition("template", Kind::Unnamed)];
    register(&mut client, definitions).await;
    spawn(&mut client, "template", &["called", "silent"]).await;
    assert_added(&mut client, "alone", 1).await;
    assert_added(&mut client, "called", 1).await;
    let mut by_reference = counter::call("by-reference", "add");
    by_reference.register_ref = "template".into();
    assert_eq!(client.invoke(&by_reference).await.expect("an answer").0, 200);
    proxy.kill().await;

    let proxy = scene.start(&[]).await;
    let mut client = Client::connect(proxy.address()).await.expect("the proxy is there");
    scene.counter.called.lock().clear();
    for (actor, value) in [("alone", 1), ("called", 1), ("silent", 0), ("by-reference", 1)] {
        assert_eq!(get(&mut client, actor).await, value, "{actor}");
        assert_added(&mut client, actor, value + 1).await;
    }
    let called = scene.counter.called.lock().clone();
    let parent = |name: &str| called.get(name).expect("it was called").parent.clone();
    assert_eq!(parent("alone"), "");
    for spawned in ["called", "silent", "by-reference"] {
        assert_eq!(parent(spawned), "template", "{spawned}");
    }
    let unknown = add(&mut client, "nobody").await.expect("an answer");
    assert!(matches!(unknown, Added::Refused(404, _)), "{unknown:?}");
}

async fn assert_added(client: &mut Client, actor: &str, value: u32) {
    let added = add(client, actor).await.expect("an answer");
    assert!(matches!(added, Added::To(now) if now == value), "{actor}: {added:?}, not {value}");
}
