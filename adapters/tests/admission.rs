//! Admission through the built binary: what callers see when there is no capacity, or no time, for their calls.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use support::client::{ANSWER_LIMIT, Client, Reply};
use support::counter::{ADD, Added, Counter, Gate, SYSTEM, add, call, definition, register};
use support::host::Host;
use support::proto::Kind;
use support::proxy::Proxy;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// The least that can be set: eight calls wait, and one more is in the worker's hands.
const TINY: [(&str, &str); 3] = [
    ("TIDEGATE_ADMISSION_EVENTS", "8"),
    ("ACTORS_GLOBAL_BACKPRESSURE_MAX_DEMAND", "1"),
    ("TIDEGATE_START_TIMEOUT", "60s"),
];
const ADMITTED: usize = 9;
/// Callers of which three find no capacity.
const CALLERS: usize = 12;

/// What a turn takes where turns are slow.
const TURN: Duration = Duration::from_millis(100);

struct World {
    proxy: Proxy,
    _host: Host,
    open: watch::Sender<bool>,
}

impl World {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let (open, seen) = watch::channel(false);
        let host = Host::start(Arc::new(Gate { counter: Arc::default(), open: seen }));
        let port = host.port();
        let mut all = vec![
            ("PROXY_DATABASE_TYPE", "memory"),
            ("USER_FUNCTION_HOST", "127.0.0.1"),
            ("USER_FUNCTION_PORT", &port),
        ];
        all.extend(TINY.iter().chain(settings));
        let proxy = Proxy::start(&all).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        let actors = (0..CALLERS).map(|at| definition(&format!("a{at}"), Kind::Named));
        register(&mut client, actors.collect()).await;
        Self { proxy, _host: host, open }
    }

    /// One call of each actor, with the time it took.
    async fn call_all(&self) -> JoinSet<(Reply, Duration)> {
        let mut calls = JoinSet::new();
        for at in 0..CALLERS {
            let mut client = Client::connect(self.proxy.address()).await.unwrap();
            calls.spawn(async move {
                let name = format!("a{at}");
                let path = format!("/api/v1/system/{SYSTEM}/actors/{name}/invoke");
                let began = Instant::now();
                let body = call(&name, ADD).encode_to_vec();
                (client.post(&path, body.into()).await.unwrap(), began.elapsed())
            });
        }
        calls
    }
}

async fn next(calls: &mut JoinSet<(Reply, Duration)>) -> (Reply, Duration) {
    timeout(ANSWER_LIMIT, calls.join_next()).await.unwrap().unwrap().unwrap()
}

/// Three calls are refused while the others wait for the host, and those are served.
async fn three_are_refused(world: &World) -> Vec<Duration> {
    let mut calls = world.call_all().await;
    let mut refused_after = Vec::new();
    for _ in ADMITTED..CALLERS {
        let (refused, took) = next(&mut calls).await;
        assert_eq!((refused.status, &refused.headers["retry-after"]), (503, &"1".parse().unwrap()));
        refused_after.push(took);
    }
    world.open.send_replace(true);
    for _ in 0..ADMITTED {
        assert_eq!(next(&mut calls).await.0.status, 200);
    }
    refused_after
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_beyond_the_bound_is_shed_at_once() {
    let world = World::start(&[]).await;
    three_are_refused(&world).await;
    let metrics = Client::connect(world.proxy.address()).await.unwrap().get("/metrics").await;
    let metrics = String::from_utf8(metrics.unwrap().body.to_vec()).unwrap();
    let counted = r#"tidegate_calls_refused_total{reason="admission"} 3"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_beyond_the_bound_waits_as_long_as_is_set_and_is_refused_then() {
    let world = World::start(&[("TIDEGATE_ADMISSION_FULL", "wait:300ms")]).await;
    for took in three_are_refused(&world).await {
        assert!(took >= Duration::from_millis(300), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_is_served_when_capacity_comes_in_time() {
    let world = World::start(&[("TIDEGATE_ADMISSION_FULL", "wait:30s")]).await;
    let mut calls = world.call_all().await;
    // Without waiting, three of them would be refused by now.
    let early = timeout(Duration::from_millis(500), calls.join_next()).await;
    assert!(early.is_err(), "{early:?}");
    world.open.send_replace(true);
    for _ in 0..CALLERS {
        assert_eq!(next(&mut calls).await.0.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn former_names_of_settings_work_and_the_log_names_those_of_today() {
    // The same bound as in the other tests, which give it under its name of today.
    let former = [
        ("TIDEGATE_ADMISSION_EVENTS", ""),
        ("TIDEGATE_DOOR_EVENTS", "8"),
        ("TIDEGATE_DOOR_BYTES", "1 MiB"),
        ("TIDEGATE_DRAIN_DELAY", "0"),
    ];
    let world = World::start(&former).await;
    three_are_refused(&world).await;
    let said = world.proxy.said(Duration::from_mins(1)).await;
    for (name, now) in [
        ("TIDEGATE_DOOR_EVENTS", "TIDEGATE_ADMISSION_EVENTS"),
        ("TIDEGATE_DOOR_BYTES", "TIDEGATE_ADMISSION_BYTES"),
    ] {
        let told = |line: &&String| line.contains("WARN") && line.contains(name);
        let told: Vec<_> = said.iter().filter(told).collect();
        assert_eq!(told.len(), 1, "{said:?}");
        assert!(told[0].contains(now), "{told:?}");
    }
    let other = [("TIDEGATE_DOOR_EVENTS", "8"), ("TIDEGATE_ADMISSION_EVENTS", "9")];
    let (code, told) = Proxy::refused(&other).await;
    assert_eq!(code, Some(64));
    assert!(told.contains("TIDEGATE_DOOR_EVENTS") && told.contains("ADMISSION"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_turn_cannot_come_in_time_is_refused_with_when_to_come_back() {
    let host = Host::start(Arc::new(Counter { takes: TURN, ..Counter::default() }));
    let port = host.port();
    let proxy = Proxy::start(&[
        ("PROXY_DATABASE_TYPE", "memory"),
        ("USER_FUNCTION_HOST", "127.0.0.1"),
        ("USER_FUNCTION_PORT", &port),
        ("TIDEGATE_START_TIMEOUT", "60s"),
    ])
    .await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, vec![definition("joe", Kind::Named), definition("jim", Kind::Named)])
        .await;
    for _ in 0..20 {
        assert!(matches!(add(&mut client, "joe").await.unwrap(), Added::To(_)));
    }
    // Callers with time enough keep nine turns of a tenth of a second waiting.
    let (mut callers, enough) = (JoinSet::new(), CancellationToken::new());
    for _ in 0..10 {
        let mut client = Client::connect(proxy.address()).await.unwrap();
        let enough = enough.clone();
        callers.spawn(async move {
            while !enough.is_cancelled() {
                assert!(matches!(add(&mut client, "joe").await.unwrap(), Added::To(_)));
            }
        });
    }
    let path = format!("/api/v1/system/{SYSTEM}/actors/joe/invoke");
    let mut hasty = call("joe", ADD);
    hasty.metadata.insert("request-timeout".into(), "150".into());
    let refused = timeout(ANSWER_LIMIT, async {
        loop {
            // The first ones may come before those callers.
            let reply = client.post(&path, hasty.encode_to_vec().into()).await.unwrap();
            if reply.status == 503 {
                return reply;
            }
        }
    });
    assert_eq!(&refused.await.unwrap().headers["retry-after"], "1");
    assert!(matches!(add(&mut client, "jim").await.unwrap(), Added::To(1)), "another actor");
    enough.cancel();
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let metrics = client.get("/metrics").await.unwrap();
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    let counted = r#"tidegate_calls_refused_total{reason="deadline"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}
