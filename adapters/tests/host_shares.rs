//! A host that accepts calls and never answers leaves turns and places for the calls of another one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use support::client::Client;
use support::counter::{ADD, Counter, call, definition, register, register_at};
use support::host::Host;
use support::proto::Kind;
use support::proxy::Proxy;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Actors of the frozen host, each with one call; more than the proxy has turns or places.
const FROZEN: usize = 40;
/// Calls of the other host, one after the other.
const SERVED: usize = 20;
const LIMIT: Duration = Duration::from_mins(1);

/// Accepts calls, reads them and never answers. Counts the connections that brought a call.
struct Frozen {
    port: u16,
    tasks: JoinSet<()>,
    called: Arc<tokio::sync::Semaphore>,
}

impl Frozen {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let called = Arc::new(tokio::sync::Semaphore::new(0));
        let mut tasks = JoinSet::new();
        let seen = called.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(hold(stream, seen.clone()));
            }
        });
        Self { port, tasks, called }
    }

    /// How many calls are in its hands once no more arrive.
    async fn holds(&self) -> usize {
        let mut before = 0;
        loop {
            sleep(Duration::from_millis(500)).await;
            let now = self.called.available_permits();
            if now > 0 && now == before {
                return now;
            }
            before = now;
        }
    }
}

async fn hold(mut stream: TcpStream, called: Arc<tokio::sync::Semaphore>) {
    let mut bytes = [0; 4096];
    if stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {
        called.add_permits(1);
    }
    while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
}

/// A proxy with 8 turns unless these settings say otherwise, in front of two hosts: one that serves `well`, and one that is frozen.
async fn start(settings: &[(&str, &str)]) -> (Proxy, Host, Frozen) {
    let (host, frozen) = (Host::start(Arc::new(Counter::default())), Frozen::start().await);
    let port = host.port();
    let mut all = BTreeMap::from([
        ("PROXY_DATABASE_TYPE", "memory"),
        ("USER_FUNCTION_HOST", "127.0.0.1"),
        ("USER_FUNCTION_PORT", &port),
        ("ACTORS_GLOBAL_BACKPRESSURE_MAX_DEMAND", "8"),
    ]);
    all.extend(settings.iter().copied());
    let proxy = Proxy::start(&all.into_iter().collect::<Vec<_>>()).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, vec![definition("well", Kind::Named)]).await;
    let actors = (0..FROZEN).map(|number| definition(&format!("f{number}"), Kind::Named));
    let address = format!("http://127.0.0.1:{}", frozen.port);
    register_at(&mut client, &address, actors.collect()).await;
    (proxy, host, frozen)
}

async fn add(address: String, actor: String) -> u16 {
    let mut client = Client::connect(&address).await.unwrap();
    client.invoke(&call(&actor, ADD)).await.unwrap().0
}

/// Calls every actor of the frozen host, and then the other one: the statuses of both.
async fn meet(proxy: &Proxy, frozen: &Frozen) -> (JoinSet<u16>, usize, Vec<u16>) {
    let stuck: JoinSet<_> =
        (0..FROZEN).map(|number| add(proxy.address().to_owned(), format!("f{number}"))).collect();
    let held = frozen.holds().await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let mut statuses = Vec::new();
    for _ in 0..SERVED {
        statuses.push(client.invoke(&call("well", ADD)).await.unwrap().0);
        if statuses.last() != Some(&200) {
            break;
        }
    }
    (stuck, held, statuses)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_host_leaves_turns_for_the_calls_of_another() {
    let (proxy, _host, frozen) = start(&[]).await;
    let (stuck, held, statuses) = meet(&proxy, &frozen).await;
    assert_eq!(statuses, [200; SERVED], "with {held} calls in the hands of the frozen host");
    assert_eq!(held, 4, "half of the turns");
    drop((frozen.tasks, stuck));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_host_leaves_places_for_the_calls_of_another() {
    // 8 that wait and 8 in hand.
    let (proxy, _host, mut frozen) = start(&[("TIDEGATE_ADMISSION_EVENTS", "8")]).await;
    let (mut stuck, held, statuses) = meet(&proxy, &frozen).await;
    assert_eq!(statuses, [200; SERVED], "with {held} calls in the hands of the frozen host");
    // The frozen one ends: its calls have their answers.
    frozen.tasks.shutdown().await;
    let mut refused = 0;
    while let Some(status) = timeout(LIMIT, stuck.join_next()).await.unwrap() {
        refused += usize::from(status.unwrap() == 503);
    }
    assert_eq!(refused, FROZEN - 8, "half of the places are its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_host_leaves_places_at_the_checkpoint_for_the_calls_of_another() {
    // 32 of 16 KiB each, beside what is kept for maintenance and for large answers.
    let settings = [
        ("ACTORS_GLOBAL_BACKPRESSURE_MAX_DEMAND", "200"),
        ("TIDEGATE_MAX_STATE_BYTES", "256KiB"),
        ("TIDEGATE_CHECKPOINT_BYTES", "1MiB"),
    ];
    let (proxy, _host, frozen) = start(&settings).await;
    let (stuck, held, statuses) = meet(&proxy, &frozen).await;
    assert_eq!(statuses, [200; SERVED], "with {held} calls in the hands of the frozen host");
    assert_eq!(held, 16, "half of the places");
    drop((frozen.tasks, stuck));
}
